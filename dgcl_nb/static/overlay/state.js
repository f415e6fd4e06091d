// What is on view: the model's values, kept within what there is.
import { TOP_LEVEL } from "./levels.js";
import { highestLevel, levelAt, rangeOf } from "./readers.js";

export function within(low, high, value) {
  return Math.min(Math.max(value, low), high);
}

// The pixel of an image that is nearest to a row and a column.
export function pixelNear(maps, image, row, col) {
  const [rows, columns] = maps.shown_size[image];
  return within(0, rows - 1, row) * maps.width + within(0, columns - 1, col);
}

// The crosshair of one image in another one, which may be smaller; null is none.
export function pixelIn(maps, image, pixel) {
  return pixel === null ? null : pixelNear(maps, image, Math.floor(pixel / maps.width), pixel % maps.width);
}

export function stateOf(model, maps) {
  const state = { model, maps, pixel: null };
  state.get = (name) => model.get(name);
  state.say = (name, value) => {
    model.set(name, value);
    model.save_changes();
    state.draw();
  };
  state.place = () => ({
    image: within(0, state.maps.images.length - 1, state.get("image_index")),
    step: within(0, state.maps.steps.length - 1, state.get("step_index"))
  });
  state.options = () => ({
    alpha: state.get("alpha"),
    bounds: state.bounds(),
    thresholdOf: state.get("threshold_of"),
    marks: state.get("marks"),
    pixel: state.pixel
  });
  // between which values pixels are painted; the upper end is null as long as nothing is above it
  state.bounds = () => [state.get("threshold"), state.get("threshold_to") ?? Infinity];
  // where the handles of the slider are
  state.handles = () => {
    const [from, to] = state.bounds();
    return [from, Math.min(to, rangeOf(state.maps, state.get("threshold_of"))[1])];
  };
  // nothing is hidden
  state.isOff = () => {
    const [from, to] = state.bounds();
    const layer = state.get("threshold_of");
    return levelAt(state.maps, layer, from) <= 0 && highestLevel(state.maps, layer, to) >= TOP_LEVEL;
  };
  state.hideBeyond = (from, to) => {
    const [, highest] = rangeOf(state.maps, state.get("threshold_of"));
    model.set("threshold_to", to < highest ? to : null);
    state.say("threshold", from);
  };
  // another layer begins with nothing hidden
  state.hideBy = (layer) => {
    model.set("threshold", rangeOf(state.maps, layer)[0]);
    model.set("threshold_to", null);
    state.say("threshold_of", layer);
  };
  return state;
}
