// What is wider than a sheet of paper is made smaller as a whole, so that nothing is cut and nothing moves.

// CSS pixels between the margins of A4, which is narrower than Letter; media.css has the margins.
const PAPER = 700;

// By what a box of this width is to be multiplied.
export function paperScale(width) {
  return width > PAPER ? PAPER / width : 1;
}

// media.css takes the scale on paper only, so the page on the screen stays as it is.
export function fitToPaper(boxes) {
  for (const box of boxes) {
    const width = Math.max(box.scrollWidth, box.offsetWidth);
    box.style.setProperty("--paper-scale", paperScale(width));
  }
}
