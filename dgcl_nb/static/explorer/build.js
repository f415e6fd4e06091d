// All parts of the view in their places.
import { check, choice } from "../front/choice.js";
import { button, explain, make } from "../front/elements.js";
import { changesControl } from "./changes.js";
import { classControl } from "./classes.js";
import { csvOf, download } from "./csv.js";
import { COLOURS, COMPARED } from "./names.js";
import { pictureControl } from "./picture.js";
import { timeBar } from "./play.js";
import { rangeControl } from "./ranges.js";
import { rankControl } from "./ranks.js";
import { shownRows } from "./selection.js";
import { tell } from "./tell.js";

const HELP = "Each dot is a cell of an image's feature grid; dots that are near have like features. " +
  "Point at a cell for its values, click for its neighbours, draw a line around cells to select them. " +
  "After a click the wheel zooms; double-click shows all. Keys: arrows, Enter, + - 0, Escape.";

// The picture, the sheet over it that takes the pointer, and the box of a point's values.
function buildStage(app) {
  app.canvas = make("canvas");
  app.pen = app.canvas.getContext("2d", { willReadFrequently: true });
  app.over = make("canvas", "dgcl-over");
  app.over.tabIndex = 0;
  app.over.setAttribute("role", "application");
  app.tip = make("div", "dgcl-tip");
  app.tip.hidden = true;
  app.stage = make("div", "dgcl-stage", app.canvas, app.over, app.tip);
  app.count = make("div", "dgcl-count");
  app.count.setAttribute("role", "status");
  app.note = make("div", "dgcl-note");
  app.unknown = make("div", "dgcl-note");
  app.time = timeBar(app);
  const head = make("div", "dgcl-bar-row", app.count, app.note);
  const help = make("div", "dgcl-note dgcl-help dgcl-screen", HELP);
  return make("div", "", head, app.stage, app.time, app.unknown, help);
}

function colourControl(app) {
  const { model } = app;
  const nameOf = (key, name) => (key === "pseudo" ? app.scene.said : name);
  const colours = app.scene.compared ? { ...COMPARED, ...COLOURS } : COLOURS;
  const options = Object.entries(colours).map(([key, name]) => [key, nameOf(key, name)]);
  const control = choice("Colour by", options, app.by, (by) => tell(model, "colour_by", by));
  model.on("change:colour_by", () => {
    control.set(model.get("colour_by"));
    app.recolour();
  });
  return explain(control, "What the colour of a dot means");
}

// Hidden where no point has a role, as those of a network that is not being trained.
function rolesControl(app) {
  const { model } = app;
  const change = (on) => tell(model, "show_roles", on);
  const control = check("anchors ○, positives +", model.get("show_roles"), change);
  model.on("change:show_roles", () => {
    control.set(model.get("show_roles"));
    app.draw();
  });
  control.refresh = () => {
    control.hidden = !app.scene.hasRoles;
  };
  control.refresh();
  return explain(control, "Anchors are pulled towards the positives of their class by the contrast loss");
}

function dragControl(app) {
  const ways = [["lasso", "lasso (Shift adds)"], ["move", "move the picture"]];
  const control = choice("Dragging", ways, "lasso", (way) => {
    app.moves = way === "move";
    app.over.classList.toggle("dgcl-moves", app.moves);
  });
  return explain(control, "What happens when the mouse is dragged over the picture");
}

function buildControls(app) {
  app.legend = make("div", "dgcl-legend");
  app.density = rangeControl(app, "density", "Density");
  app.ranks = rankControl(app);
  app.confidence = rangeControl(app, "confidence", "Confidence");
  app.classBox = classControl(app);
  const ghosts = check("hidden cells as specks", true, (on) => {
    app.ghosts = on;
    app.draw();
  });
  explain(ghosts, "Draws the cells that the filters hide as faint specks");
  explain(app.classBox, `Shows cells by their true class, or by the ${app.scene.said} where that is unknown`);
  const filters = [app.density, app.ranks, app.confidence, app.classBox];
  app.rolesBox = rolesControl(app);
  const below = [app.rolesBox, ghosts, dragControl(app)];
  return make("div", "", colourControl(app), app.legend, ...filters, ...below);
}

// What is known of the selected points, and of the clicked one.
function buildSide(app) {
  app.chosenBox = make("div", "dgcl-box");
  app.nearBox = make("div", "dgcl-box");
  app.nearBox.hidden = true;
  app.clear = button("Clear", () => app.clearAll());
  app.csv = button("Save CSV", () => {
    const points = app.points();
    download(csvOf(app.scene, points, app.rows()), `selection_step_${points.step}.csv`);
  });
  app.all = button("Select shown", () => app.choose(shownRows(app.points()), false));
  explain(app.all, "Selects every cell that the filters show");
  explain(app.clear, "Forgets the selection and the clicked cell");
  explain(app.csv, "Saves the selected cells as a table, with their images, places and values");
  const buttons = make("div", "dgcl-buttons", app.all, app.clear, app.csv);
  app.pane = pictureControl(app);
  const chosen = make("div", "", buttons, app.pane.node, app.chosenBox);
  return make("div", "dgcl-side", chosen, app.nearBox);
}

export function build(app) {
  const controls = buildControls(app);
  const columns = make("div", "dgcl-columns", controls, buildStage(app), buildSide(app));
  app.strip = make("div", "dgcl-strip");
  app.strip.hidden = true;
  app.changes = changesControl(app);
  app.root.append(columns, app.changes, app.strip);
}
