// The keyboard: arrows go from point to point, Enter clicks, + - 0 zoom, Escape clears.
import { pointTowards } from "./find.js";

const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function go(app, way) {
  const next = pointTowards(app, app.points(), app.hovered, ...way);
  if (next >= 0) app.hover(next);
}

function zoomBy(app, factor) {
  app.zoom(factor, app.width / 2, app.height / 2);
}

function actionOf(app, key) {
  if (WAYS[key]) return () => go(app, WAYS[key]);
  const actions = {
    "Enter": () => app.click(app.hovered),
    " ": () => app.click(app.hovered),
    "+": () => zoomBy(app, 1.25),
    "=": () => zoomBy(app, 1.25),
    "-": () => zoomBy(app, 0.8),
    "0": () => app.fit()
  };
  return actions[key];
}

function consume(event) {
  event.preventDefault();
  event.stopPropagation();
}

// Escape clears from the picture, the image that one draws on, or a button: on a slider or a list it is
// pressed for something else.
function isCleared(app, target) {
  return target === app.over || target === app.pane.canvas || target.tagName === "BUTTON";
}

export function listenToKeys(app) {
  app.over.addEventListener("keydown", (event) => {
    const action = actionOf(app, event.key);
    if (!action) return;
    action();
    consume(event);
  });
  app.root.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !isCleared(app, event.target)) return;
    consume(event);
    if (app.drag?.path) app.drag = null; // the lasso is given up
    app.clearAll();
  });
}
