// Names that Python and the page share. The values are JSON: Python reads them from this file.

// What points can be coloured by, and its name on the page.
export const COLOURS = {
  "class": "true class",
  "pseudo": "pseudo-label",
  "density": "density",
  "confidence": "confidence",
  "right": "right or wrong"
};

// And where two runs are compared.
export const COMPARED = {
  "change": "what changed",
  "shift": "change of density"
};

// What became of a cell from the one run to the other, and its colour; a point holds the place in this list.
export const CHANGES = [
  ["both right", [160, 184, 204]],
  ["right → wrong", [230, 97, 0]],
  ["wrong → right", [0, 114, 178]],
  ["both wrong", [140, 88, 136]]
];
