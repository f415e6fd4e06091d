// Rings for anchors and crosses for positives, over the points.
import { pointRadius } from "./points.js";

const ANCHOR = 1; // its place in scene.roles; other roles but 0 (none) get a cross

function tracePoint(pen, role, x, y, size) {
  if (role === ANCHOR) {
    pen.moveTo(x + size, y);
    pen.arc(x, y, size, 0, 7);
    return;
  }
  pen.moveTo(x - size, y);
  pen.lineTo(x + size, y);
  pen.moveTo(x, y - size);
  pen.lineTo(x, y + size);
}

export function drawRoles(app, points) {
  const { pen, ratio, px, py } = app;
  const size = (pointRadius(points.n, app.view.zoom) + 1.6) * ratio;
  pen.strokeStyle = app.ink;
  pen.lineWidth = 1.1 * ratio;
  pen.beginPath();
  for (let i = 0; i < points.n; i++) {
    if (!points.shown[i] || !points.role[i]) continue;
    tracePoint(pen, points.role[i], px[i] * ratio, py[i] * ratio, size);
  }
  pen.stroke();
}
