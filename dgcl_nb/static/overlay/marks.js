// Rings around marked cells, and the crosshair: white lines with a dark edge.

function strokeTwice(context, trace, ratio) {
  for (const [colour, width] of [["#000", 3.4], ["#fff", 1.5]]) {
    context.strokeStyle = colour;
    context.lineWidth = width * ratio;
    context.beginPath();
    trace();
    context.stroke();
  }
}

// `marks` are rows of (image, row, column of the cell).
export function drawMarks(context, maps, image, marks, ratio) {
  const width = context.canvas.width / maps.columns;
  const height = context.canvas.height / maps.rows;
  const radius = Math.max(3 * ratio, 0.42 * Math.min(width, height));
  for (const [ofImage, row, col] of marks) {
    if (ofImage !== image) continue;
    const ring = () => context.arc((col + 0.5) * width, (row + 0.5) * height, radius, 0, 7);
    strokeTwice(context, ring, ratio);
  }
}

export function drawCross(context, maps, pixel, ratio) {
  const { width, height } = context.canvas;
  const [side, upright] = [width / maps.width, height / maps.height];
  const left = (pixel % maps.width) * side;
  const top = Math.floor(pixel / maps.width) * upright;
  const [x, y] = [left + side / 2, top + upright / 2];
  const gap = Math.max(side, upright) / 2 + 3 * ratio;
  const lines = [[0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height]];
  strokeTwice(context, () => {
    for (const [x0, y0, x1, y1] of lines) {
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
    }
    context.rect(left - ratio, top - ratio, side + 2 * ratio, upright + 2 * ratio);
  }, ratio * 0.8);
}
