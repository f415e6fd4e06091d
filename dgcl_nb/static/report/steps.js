// One slider of training steps for all views of a page, and a line in its curves. Views have different
// steps: each goes to its own nearest one.
import { make } from "../front/elements.js";
import { slider } from "../front/slider.js";
import { withStepLine } from "../front/step_line.js";

// The training steps that a view can show; none where its slider goes from run to run.
export function stepsOf(model) {
  const [scene, meta] = [model.get("scene"), model.get("meta")];
  if (scene) return scene.compared ? [] : scene.steps.map(({ step }) => step);
  return meta ? meta.steps : [];
}

export function nearestPlace(steps, wanted) {
  const far = steps.map((step) => Math.abs(step - wanted));
  return far.indexOf(Math.min(...far));
}

// Calls `show(step)` whenever a view goes to another step; `go(step)` sends all views there.
export function linkViews(models, show) {
  let isGoing = false;
  const go = (step, from = null) => {
    if (isGoing) return;
    isGoing = true;
    for (const model of models) {
      if (model !== from) model.set("step_index", nearestPlace(stepsOf(model), step));
    }
    isGoing = false;
    show(step);
  };
  for (const model of models) {
    model.on("change:step_index", () => go(stepsOf(model)[model.get("step_index")], model));
  }
  return go;
}

// The line in a figure of curves; its own shapes stay.
function markFigure(figure, step) {
  const canvas = figure.querySelector(".canvas");
  if (!window.Plotly || !canvas.layout) return;
  const { layout } = JSON.parse(figure.querySelector("script").textContent);
  const colour = getComputedStyle(document.body).getPropertyValue("--accent").trim();
  window.Plotly.relayout(canvas, { shapes: withStepLine(layout, step, colour) });
}

// Puts the slider into the page, where it has something to move together; returns what draws the line anew.
export function stepBar(nav, figures) {
  const sections = [...document.querySelectorAll("[data-front]")];
  const models = sections.map(({ model }) => model).filter((model) => model && stepsOf(model).length > 1);
  const curves = figures.filter(({ dataset }) => dataset.name === "curves");
  if (!models.length || models.length + curves.length < 2) return () => {};
  const steps = [...new Set(models.flatMap(stepsOf))].sort((a, b) => a - b);
  let now = steps[steps.length - 1];
  const mark = () => curves.forEach((figure) => markFigure(figure, now));
  const go = linkViews(models, (step) => {
    now = step;
    bar.set(nearestPlace(steps, step));
    mark();
  });
  const ends = { min: 0, max: steps.length - 1, step: 1, value: steps.length - 1 };
  const format = (place) => String(steps[place]);
  const bar = slider("Training step of all views", { ...ends, format }, (place) => go(steps[place]));
  nav.append(make("div", "steps", bar));
  return mark;
}
