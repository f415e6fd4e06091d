// What the view does when the model changes, by the user's hand, by a script or by a live training.
import { showNeighbours } from "./near.js";
import { unpack } from "./scene.js";
import { tell } from "./tell.js";
import { carryOver, startMove } from "./time.js";

const MOVE = 700; // milliseconds from step to step

// The selection as it is in another step: that of the model at the start, the same cells later, be it in
// another scene.
function carryChosen(app, before, points) {
  const { model } = app;
  if (!before) {
    app.selected = new Set(model.get("selected").filter((i) => i < points.n));
    app.clicked = model.get("clicked") < points.n ? model.get("clicked") : -1;
    return;
  }
  const clicked = app.clicked >= 0 ? [app.clicked] : [];
  app.selected = new Set(carryOver([...app.selected], before, points));
  app.clicked = carryOver(clicked, before, points)[0] ?? -1;
  model.set("selected", app.rows());
  model.set("clicked", app.clicked);
  tell(model, "rows_step", app.now); // Python need not carry them over, too
}

// Show step number `index`, coming from the points `before` (null at the start).
export function showStep(app, before, index, milliseconds) {
  app.now = index;
  const points = app.points();
  startMove(app, before, points, milliseconds);
  carryChosen(app, before, points);
  app.hovered = -1;
  app.tip.hidden = true;
  app.counted = null; // what depends on the filter is shown anew
  app.density.refresh();
  app.ranks.refresh();
  app.confidence.refresh();
  showNeighbours(app, points);
  app.pane.refresh();
  app.recolour();
}

function takeScene(app) {
  const before = app.points();
  const old = app.scene;
  app.scene = unpack(app.model.get("scene"), old.known);
  app.pane.image = app.scene.image_ids.indexOf(old.image_ids[app.pane.image]);
  if (app.fitted || old.layout !== app.scene.layout) app.fitView();
  app.scene.oneScale = old.oneScale;
  app.classBox.build();
  app.rolesBox.refresh();
  showStep(app, before, app.wantedStep(), MOVE);
}

function takeSelected(app) {
  const rows = app.model.get("selected");
  const isSame = rows.length === app.selected.size && rows.every((i) => app.selected.has(i));
  if (isSame) return;
  app.selected = new Set(rows.filter((i) => i < app.points().n));
  app.showChosen();
  app.draw();
}

function takeClicked(app) {
  const i = app.model.get("clicked");
  if (i === app.clicked || i >= app.points().n) return;
  app.clicked = i;
  showNeighbours(app, app.points());
  app.showChosen();
  app.mark();
}

export function followModel(app) {
  const on = (name, fn) => app.model.on(`change:${name}`, fn);
  on("step_index", () => {
    const index = app.wantedStep();
    if (index !== app.now) showStep(app, app.points(), index, MOVE);
  });
  on("scene", () => takeScene(app));
  on("selected", () => takeSelected(app));
  on("clicked", () => takeClicked(app));
  on("found", () => {
    showNeighbours(app, app.points());
    app.mark();
  });
  on("note", () => app.describe());
}
