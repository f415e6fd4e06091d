// What is wider than a sheet of paper is made smaller as a whole, so that nothing is cut and nothing moves.

// CSS pixels between the margins of A4, which is narrower than Letter; media.css has the margins.
const PAPER = 700;

// By what a box of this width is to be multiplied.
export function paperScale(width) {
  return width > PAPER ? PAPER / width : 1;
}

export function fitToPaper(boxes) {
  // all are measured before any is changed
  const scales = [...boxes].map((box) => [box, paperScale(Math.max(box.scrollWidth, box.offsetWidth))]);
  for (const [box, scale] of scales) box.style.zoom = scale;
}

export function unfit(boxes) {
  for (const box of boxes) box.style.zoom = "";
}
