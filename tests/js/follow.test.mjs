// What the view does when another scene arrives.
import assert from "node:assert/strict";
import { test } from "node:test";
import { followModel } from "../../dgcl_nb/static/explorer/follow.js";
import { unpack } from "../../dgcl_nb/static/explorer/scene.js";
import { pageModel } from "../../dgcl_nb/static/front/page_model.js";
import { dataView, IGNORE } from "./helpers.mjs";

// One step of cells at row 0, each of the image of its number.
function sceneOf(names, images) {
  const bytes = (Type) => dataView(new Type(2 * images.length));
  const columns = { xy: bytes(Float32Array), image: dataView(Int16Array.from(images)) };
  for (const name of ["label", "pseudo", "role"]) columns[name] = bytes(Uint8Array);
  for (const name of ["row", "col"]) columns[name] = bytes(Uint16Array);
  for (const name of ["density", "confidence"]) columns[name] = bytes(Float32Array);
  const steps = [{ step: 1, n: images.length, k: 0 }];
  return { steps, ignore: IGNORE, layout: "PCA", image_ids: names, ...columns };
}

// A view of which no more is there than a new scene asks for.
function fakeApp(scene) {
  const model = pageModel({ step_index: 0, found: {}, note: "" });
  const part = () => ({ refresh() {}, build() {}, replaceChildren() {} });
  const names = ["classBox", "rolesBox", "density", "ranks", "confidence", "pane", "nearBox", "tip"];
  const app = { model, scene: unpack(scene), now: 0, fitted: true, pos: new Float32Array(99) };
  for (const name of names) app[name] = part();
  app.points = () => app.scene.steps[app.now];
  app.rows = () => [...app.selected].sort();
  app.wantedStep = () => 0;
  for (const name of ["fitView", "recolour", "draw", "mark", "showChosen", "describe"]) app[name] = () => {};
  return app;
}

test("scene: the chosen cells stay those of their images, and so does the image that one draws on", () => {
  globalThis.document = { hidden: true };
  globalThis.matchMedia = () => ({ matches: false });
  const app = fakeApp(sceneOf(["a", "b", "c"], [0, 1, 2, -1]));
  Object.assign(app, { selected: new Set([0, 3]), clicked: -1 });
  app.pane.image = 1;
  followModel(app);
  app.model.set("scene", sceneOf(["c", "a", "b"], [0, 1, 2, -1]));
  assert.deepEqual(app.rows(), [1, 3]); // a is number 1 now; the cell of no image is where it was
  assert.deepEqual(app.model.get("selected"), [1, 3]);
  assert.equal(app.pane.image, 2);
});
