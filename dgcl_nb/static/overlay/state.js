// What is on view: the model's values, kept within what there is.
import { levelAt, rangeOf } from "./readers.js";

export function within(low, high, value) {
  return Math.min(Math.max(value, low), high);
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
    threshold: state.get("threshold"),
    thresholdOf: state.get("threshold_of"),
    marks: state.get("marks"),
    pixel: state.pixel
  });
  // nothing is hidden
  state.isOff = () => levelAt(state.maps, state.get("threshold_of"), state.get("threshold")) <= 0;
  // another layer begins with nothing hidden
  state.hideBy = (layer) => {
    model.set("threshold", rangeOf(state.maps, layer)[0]);
    state.say("threshold_of", layer);
  };
  return state;
}
