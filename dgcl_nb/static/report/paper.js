// What is larger than a sheet of paper is made smaller as a whole, so that nothing is cut and nothing moves.

// CSS pixels between the margins of A4, which is narrower than Letter; media.css has the margins.
const PAPER = 700;
// And of Letter, which is lower, less the lines that lead to a figure and those below it.
const HIGHEST = 800;
// And for each of two figures that share a sheet, with both of their leads.
const HALF = 340;

// By what a box is to be multiplied. A table goes on overleaf, whatever its height.
export function paperScale(width, height = 0, highest = HIGHEST) {
  return Math.min(1, PAPER / width, highest / height);
}

// media.css takes the scale on paper only, so the page on the screen stays as it is.
export function fitToPaper(boxes) {
  for (const box of boxes) {
    const width = Math.max(box.scrollWidth, box.offsetWidth);
    const height = box.tagName === "TABLE" ? 0 : box.offsetHeight;
    const highest = box.closest(".half-sheet") ? HALF : HIGHEST;
    box.style.setProperty("--paper-scale", paperScale(width, height, highest));
  }
}
