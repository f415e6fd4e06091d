// The overlay: two linked panels, their controls, and the values of a pixel.
import { throttle, watchRatio } from "../front/draw.js";
import { frontRoot, make } from "../front/elements.js";
import { controlsOf } from "./controls.js";
import { drawAll, fillChoices, setLimits } from "./draw_all.js";
import { loadMaps, MAP_TYPES } from "./maps.js";
import { panelOf } from "./pointing.js";
import { stateOf } from "./state.js";

// Draws anew what the model changes; returns what ends that.
function followModel(state, { refresh, reload, limitsChanged }) {
  const watched = [
    [["meta", ...Object.keys(MAP_TYPES)], throttle(reload)],
    [["threshold_of"], limitsChanged],
    [["marks"], refresh],
    [["image_index", "step_index", "left", "right", "alpha", "threshold", "threshold_to"], state.draw]
  ];
  const pairs = watched.flatMap(([names, fn]) => names.map((name) => [`change:${name}`, fn]));
  for (const [event, fn] of pairs) state.model.on(event, fn);
  return () => {
    for (const [event, fn] of pairs) state.model.off(event, fn);
  };
}

function build(state, el) {
  const root = frontRoot(el, "Images with maps over them");
  root.classList.add("dgcl-overlay");
  const controls = controlsOf(state);
  const panels = ["left", "right"].map((side) => panelOf(state, side));
  const pane = make("div", "dgcl-ov-readout");
  pane.setAttribute("aria-live", "polite");
  const middle = make("div", "dgcl-ov-panels", ...panels.map((panel) => panel.node), pane);
  root.append(controls.above, middle, controls.below);
  return { controls, panels, pane };
}

// What to do when the maps, their choices or the threshold's layer change.
function changesOf(state, { controls, panels, pane }) {
  const drawNow = () => drawAll(state, controls, panels, pane);
  let turn = 0;
  const refresh = () => {
    fillChoices(state, controls, panels);
    setLimits(state, controls);
    drawNow();
  };
  const reload = async () => {
    turn++;
    const mine = turn;
    const fresh = await loadMaps(state.model);
    if (mine !== turn) return; // newer maps are on their way
    state.maps = fresh;
    refresh();
  };
  const limitsChanged = () => {
    setLimits(state, controls);
    state.draw();
  };
  state.draw = throttle(drawNow);
  return { refresh, reload, limitsChanged };
}

export async function render({ model, el }) {
  let maps;
  try {
    maps = await loadMaps(model);
  } catch (error) {
    el.append(`These images cannot be shown: ${error.message}`);
    return undefined;
  }
  const state = stateOf(model, maps);
  const parts = build(state, el);
  const changes = changesOf(state, parts);
  const unfollow = followModel(state, changes);
  const unwatch = watchRatio(() => state.draw());
  changes.refresh();
  return () => {
    parts.controls.film.stop();
    unfollow();
    unwatch();
  };
}
