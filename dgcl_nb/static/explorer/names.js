// Names that Python and the page share. The values are JSON: Python reads them from this file.

// What points can be coloured by, and its name on the page.
export const COLOURS = {
  "class": "true class",
  "pseudo": "pseudo-label",
  "density": "density",
  "confidence": "confidence",
  "right": "right or wrong"
};
