// Colours that Python and the page share. The values are JSON: Python reads them from this file.

// 33 colours of cividis, from low to high.
export const CIVIDIS = [
  [0, 34, 78], [0, 40, 91], [0, 46, 106], [4, 51, 113], [26, 56, 111], [39, 62, 110],
  [50, 67, 109], [59, 73, 108], [67, 78, 108], [75, 84, 108], [82, 89, 109], [90, 95, 110],
  [97, 101, 111], [104, 106, 113], [111, 112, 115], [117, 118, 118], [124, 123, 120],
  [132, 129, 121], [139, 135, 120], [147, 141, 120], [155, 147, 118], [163, 154, 117],
  [171, 160, 114], [179, 166, 112], [187, 173, 108], [195, 180, 105], [204, 186, 100],
  [212, 193, 95], [221, 201, 88], [230, 208, 81], [239, 215, 72], [248, 223, 60], [254, 232, 56]
];

// What is not known: no density, no true class.
export const UNKNOWN = [150, 150, 150];

// Right is blue and wrong is orange: told apart by colour-blind readers, too.
export const RIGHT_WRONG = [[0, 114, 178], [230, 97, 0]];
