// The values of the hovered point, beside it.
import { make } from "../front/elements.js";
import { changeValues } from "./changes.js";
import { drawCrop } from "./thumbs.js";
import { valuesOf, valueTable } from "./words.js";

const GAP = 14; // CSS pixels between point and box

// To the right of the point, or to its left where there is no room; never outside the picture.
function placeTip(app, x, y) {
  const { tip } = app;
  const [width, height] = [tip.offsetWidth, tip.offsetHeight];
  const fitsRight = x + GAP + width <= app.width;
  const left = fitsRight ? x + GAP : Math.max(0, x - GAP - width);
  const top = Math.min(Math.max(0, y - height / 2), Math.max(0, app.height - height));
  tip.style.left = `${left}px`;
  tip.style.top = `${top}px`;
}

// Shows the values of point i; -1 hides the box.
export function showTip(app, points, i) {
  const { tip, scene } = app;
  tip.hidden = i < 0;
  if (i < 0) return;
  const crop = make("canvas", "dgcl-crop");
  const isDrawn = drawCrop(crop, scene, points, i, 104);
  const table = valueTable(scene, [...valuesOf(scene, points, i), ...changeValues(points, i)]);
  tip.replaceChildren(...(isDrawn ? [crop] : []), table);
  placeTip(app, app.px[i], app.py[i]);
}
