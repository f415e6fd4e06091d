// The state of one view, and what can be done to it. `build.js` adds its elements, `render.js` how it
// is redrawn: draw() for the points, mark() for what lies over them, each at most once a frame.
import { showNeighbours } from "./near.js";
import { followClick } from "./picture.js";
import { unpack } from "./scene.js";
import { showStrip } from "./strip.js";
import { showSummary } from "./summary.js";
import { tell } from "./tell.js";
import { showTip } from "./tip.js";

const PAD = 26; // CSS pixels around the points

function stateOf(model, root) {
  const none = new Float32Array(0);
  return {
    model,
    root,
    scene: unpack(model.get("scene")),
    now: 0, // place of the step on view
    by: model.get("colour_by"),
    pos: none, // places in the layout, x and y by turns
    px: none, // the same in CSS pixels
    py: none,
    width: 560,
    height: 436,
    view: {}, // middle (x, y), scale (CSS pixels for 1) and zoom (1: all fits in)
    fitted: true, // nobody has zoomed or moved
    isPaper: false, // drawn to be printed
    draws: 0,
    counted: null, // of paint_all.js: the filter whose numbers are on view
    selected: new Set(), // rows
    clicked: -1, // a row, or none
    hovered: -1,
    emphasis: -1, // a class, or none
    ghosts: true, // hidden points as specks
    moves: false, // dragging moves the picture
    drag: null, // of pointer.js while a button is down: the lasso, or a move of the picture
    near: null,
    pane: null, // of picture.js: the image that one draws on
    fade: null,
    move: null,
    dim: null,
    index: null
  };
}

function addView(app) {
  app.fitView = () => {
    const [left, right, bottom, top] = app.scene.box;
    const fit = (room, length) => (room - 2 * PAD) / Math.max(length, 1e-9);
    const scale = Math.min(fit(app.width, right - left), fit(app.height, top - bottom));
    app.view = { x: (left + right) / 2, y: (top + bottom) / 2, scale, zoom: 1 };
    app.fitted = true;
  };
  app.fit = () => {
    app.fitView();
    app.draw();
  };
  // what lies at (x, y) stays there
  app.zoom = (factor, x, y) => {
    const { view } = app;
    const zoom = Math.min(Math.max(view.zoom * factor, 0.5), 60);
    const grow = zoom / view.zoom;
    view.x += ((x - app.width / 2) / view.scale) * (1 - 1 / grow);
    view.y -= ((y - app.height / 2) / view.scale) * (1 - 1 / grow);
    view.scale *= grow;
    view.zoom = zoom;
    app.fitted = false;
    app.hover(-1);
    app.draw();
  };
}

function addPointing(app) {
  app.showChosen = () => {
    showSummary(app, app.points());
    showStrip(app, app.points());
  };
  app.hover = (i) => {
    if (i === app.hovered) return;
    app.hovered = i;
    showTip(app, app.points(), i);
    app.mark();
  };
  app.click = (i) => {
    app.clicked = i;
    tell(app.model, "clicked", i);
    showNeighbours(app, app.points());
    followClick(app);
    app.showChosen();
    app.mark();
  };
  app.rows = () => Array.from(Uint32Array.from(app.selected).sort());
  app.choose = (rows, adds) => {
    app.selected = new Set(adds ? [...app.selected, ...rows] : rows);
    tell(app.model, "selected", app.rows());
    app.showChosen();
    app.draw();
  };
  app.clearAll = () => {
    app.click(-1);
    app.choose([], false);
  };
}

export function makeApp(model, root) {
  const app = stateOf(model, root);
  app.wantedStep = () => Math.min(Math.max(model.get("step_index"), 0), app.scene.steps.length - 1);
  app.points = () => app.scene.steps[app.now];
  app.now = app.wantedStep();
  addView(app);
  addPointing(app);
  return app;
}
