// The sliders for density and confidence. Each control says what it does to the model; each change of
// the model, from wherever, is shown by its control.
import { make } from "../front/elements.js";
import { MEANING, OWN_CLASS } from "../front/ends.js";
import { rangeSlider } from "../front/range.js";
import { decimals } from "../front/slider.js";
import { fromRange, toRange } from "./filter.js";
import { limitsOf } from "./limits.js";
import { tell } from "./tell.js";
import { isForeign, isOwnDensity } from "./words.js";

function isAllUnknown(points, name) {
  return points.n > 0 && points[name].every((value) => Number.isNaN(value));
}

function meaningOf(scene, name) {
  return name === "density" && isOwnDensity(scene) ? OWN_CLASS : MEANING[name];
}

// A slider spans the values of the step on view, so that each key takes away points.
export function rangeControl(app, name, label) {
  const { model } = app;
  const field = `${name}_range`;
  let limits = limitsOf(app.points(), name, model.get(field));
  const [low, high] = fromRange(model.get(field), limits);
  const ends = { min: limits.low, max: limits.high, step: limits.step };
  const format = (value) => value.toFixed(decimals(limits.step));
  const change = (a, b) => {
    tell(model, field, toRange(name, [a, b], limits));
    app.draw();
  };
  const control = rangeSlider(label, { ...ends, low, high, format }, change);
  control.append(make("span", "dgcl-note", meaningOf(app.scene, name)));
  control.refresh = () => {
    limits = limitsOf(app.points(), name, model.get(field));
    for (const input of [control.lower, control.upper]) input.step = limits.step;
    control.limits(limits.low, limits.high);
    control.set(...fromRange(model.get(field), limits));
    if (isAllUnknown(app.points(), name)) {
      control.querySelector("output").textContent = isForeign(app.scene) ? "not known" : `no ${name} yet`;
    }
  };
  model.on(`change:${field}`, () => {
    const here = toRange(name, control.values(), limits);
    if (String(here) !== String(model.get(field))) control.refresh();
    app.draw();
  });
  return control;
}
