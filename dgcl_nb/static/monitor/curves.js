// The curves of a run. The picture is a function of the model's `figure` alone: each change draws it
// anew, so that a page which was loaded again, or opened late, shows what every other page shows.
/* global Plotly */
import { make } from "../front/elements.js";
import { narrowScale } from "../front/narrow.js";
import { withStepLine } from "../front/step_line.js";

const LEAST_WIDTH = 860; // CSS pixels that the words above three panels side by side need
const LINE_COLOUR = "#888888"; // is seen on white and on black
const CONFIG = { displaylogo: false, showSendToCloud: false };

// What plotly is given: the figure, as wide as its place. Ranges that a person has zoomed to stay, as
// the figure keeps its `uirevision`. A line stands at the step that the other views show; -1: none does.
export function drawing(text, width, step = -1) {
  const { data, layout } = JSON.parse(text);
  const lines = step < 0 ? {} : { shapes: withStepLine(layout, step, LINE_COLOUR) };
  return { data, layout: { ...layout, ...lines, width: Math.max(width, LEAST_WIDTH), autosize: false } };
}

// A figure that is wider than its place is shown smaller as a whole, so that no column of it is cut.
function fit(root, place, { width, height }) {
  const scale = narrowScale(root.clientWidth, width);
  place.style.width = `${width}px`;
  place.style.transform = `scale(${scale})`;
  root.style.height = `${Math.ceil(scale * height)}px`;
}

export function render({ model, el }) {
  const place = make("div");
  const root = make("div", "dgcl-mon-figure", place);
  el.append(root);
  const draw = () => {
    const text = model.get("figure");
    // a place that is not on view has no width; the observer calls again when it has
    if (!text || !root.clientWidth) return;
    const { data, layout } = drawing(text, root.clientWidth, model.get("step"));
    Plotly.react(place, data, layout, CONFIG);
    fit(root, place, layout);
  };
  const watcher = new ResizeObserver(draw);
  watcher.observe(root);
  model.on("change:figure change:step", draw);
  return () => {
    watcher.disconnect();
    model.off("change:figure", draw);
    model.off("change:step", draw);
    Plotly.purge(place);
  };
}
