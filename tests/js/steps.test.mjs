// One slider of training steps for all views of a page.
import assert from "node:assert/strict";
import { test } from "node:test";
import { pageModel } from "../../dgcl_nb/static/front/page_model.js";
import { withStepLine } from "../../dgcl_nb/static/front/step_line.js";
import { linkViews, nearestPlace, stepsOf } from "../../dgcl_nb/static/report/steps.js";

function twoViews() {
  const scene = { steps: [{ step: 10 }, { step: 25 }, { step: 30 }] };
  const explorer = pageModel({ scene, step_index: 2 });
  const overlay = pageModel({ meta: { steps: [10, 30] }, step_index: 1 });
  return [explorer, overlay];
}

test("steps: of an explorer, of an overlay, none of two runs", () => {
  const [explorer, overlay] = twoViews();
  assert.deepEqual([stepsOf(explorer), stepsOf(overlay)], [[10, 25, 30], [10, 30]]);
  assert.deepEqual(stepsOf(pageModel({ scene: { compared: true, steps: [{ step: 1 }] } })), []);
  assert.deepEqual(stepsOf(pageModel({})), []);
});

test("nearest: the first of two that are equally near", () => {
  const places = [19, 20, 99].map((step) => nearestPlace([10, 30], step));
  assert.deepEqual(places, [0, 0, 1]);
});

test("link: the slider moves all views, and a view moves the others but is not pulled back", () => {
  const [explorer, overlay] = twoViews();
  const said = [];
  const go = linkViews([explorer, overlay], (step) => said.push(step));
  go(10);
  assert.deepEqual([explorer.get("step_index"), overlay.get("step_index")], [0, 0]);
  explorer.set("step_index", 1);
  assert.deepEqual([explorer.get("step_index"), overlay.get("step_index")], [1, 1]);
  overlay.set("step_index", 0);
  assert.equal(explorer.get("step_index"), 0);
  assert.deepEqual(said, [10, 25, 10]);
});

test("line: one in each panel, beside the figure's own shapes", () => {
  const layout = { xaxis: { anchor: "y" }, xaxis2: { anchor: "y2" }, yaxis: {}, shapes: [{ type: "rect" }] };
  const [own, first, second] = withStepLine(layout, 25, "#888");
  assert.equal(own.type, "rect");
  assert.deepEqual([first.xref, first.yref, first.x0], ["x", "y domain", 25]);
  assert.deepEqual([second.xref, second.yref, second.x1], ["x2", "y2 domain", 25]);
});

test("line: none in a place that has no panel", () => {
  const layout = { xaxis: { anchor: "y" }, xaxis2: { anchor: "y2", visible: false } };
  assert.deepEqual(withStepLine(layout, 25, "#888").map((line) => line.xref), ["x"]);
});
