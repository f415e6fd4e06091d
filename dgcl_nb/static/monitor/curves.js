// The curves of a run. The picture is a function of the model's `figure` alone: each change draws it
// anew, so that a page which was loaded again, or opened late, shows what every other page shows.
/* global Plotly */
import { make } from "../front/elements.js";

const LEAST_WIDTH = 860; // CSS pixels that the words above three panels side by side need
const CONFIG = { displaylogo: false, showSendToCloud: false };

// What plotly is given: the figure, as wide as its place. Ranges that a person has zoomed to stay, as
// the figure keeps its `uirevision`.
export function drawing(text, width) {
  const { data, layout } = JSON.parse(text);
  return { data, layout: { ...layout, width: Math.max(width, LEAST_WIDTH), autosize: false } };
}

export function render({ model, el }) {
  const place = make("div");
  const root = make("div", "dgcl-mon-figure", place);
  el.append(root);
  const draw = () => {
    const text = model.get("figure");
    // a place that is not on view has no width; the observer calls again when it has
    if (!text || !root.clientWidth) return;
    const { data, layout } = drawing(text, root.clientWidth);
    Plotly.react(place, data, layout, CONFIG);
  };
  const watcher = new ResizeObserver(draw);
  watcher.observe(root);
  model.on("change:figure", draw);
  return () => {
    watcher.disconnect();
    model.off("change:figure", draw);
    Plotly.purge(place);
  };
}
