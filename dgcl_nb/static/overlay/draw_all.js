// All that is on view, drawn from the state.
import { fillOptions } from "../front/choice.js";
import { make } from "../front/elements.js";
import { layersOf } from "./layers.js";
import { legend } from "./legend.js";
import { drawPanel } from "./panel.js";
import { isContinuous, rangeOf } from "./readers.js";
import { readout } from "./readout.js";
import { pixelIn } from "./state.js";

const HINT = "Point at a pixel, or move there with the arrow keys, to read all its values.";

function drawSide(state, controls, panel, place, options) {
  const { maps } = state;
  const layer = state.get(panel.side);
  panel.layer.set(layer);
  if (!drawPanel(panel, maps, place, layer, options)) return;
  panel.chips.replaceChildren(...legend(maps, place, layer));
  controls.threshold.set(...state.handles()); // its text counts what is hidden
  const name = layersOf(maps).find(([key]) => key === layer)[1];
  const where = `${maps.images[place.image]} at step ${maps.steps[place.step]}`;
  panel.canvas.setAttribute("aria-label", `${name} of ${where}; arrow keys move the crosshair`);
}

function drawPane(state, pane, place, options) {
  const hint = () => [make("div", "dgcl-note dgcl-screen", HINT)];
  const parts = state.pixel === null ? hint() : readout(state.maps, place, state.pixel, options);
  const marked = options.marks.filter(([image]) => image === place.image).length;
  if (marked) {
    const cells = marked === 1 ? "cell" : "cells";
    parts.push(make("div", "dgcl-note", `${marked} marked ${cells} in this image`));
  }
  pane.replaceChildren(...parts);
}

export function drawAll(state, controls, panels, pane) {
  const place = state.place();
  state.pixel = pixelIn(state.maps, place.image, state.pixel);
  const options = state.options();
  controls.images.set(place.image);
  controls.film.steps.set(place.step);
  controls.alpha.set(options.alpha);
  controls.kinds.set(options.thresholdOf);
  for (const panel of panels) drawSide(state, controls, panel, place, options);
  drawPane(state, pane, place, options);
}

function fill(field, options, value) {
  fillOptions(field.input, options);
  field.set(value);
}

// The lists of images and layers, and the ends of sliders; after the maps have changed.
export function fillChoices(state, controls, panels) {
  const { maps } = state;
  const layers = layersOf(maps);
  const names = maps.images.map((id, i) => {
    const marked = state.get("marks").filter(([image]) => image === i).length;
    return [i, marked ? `${id} (${marked} marked)` : id];
  });
  fill(controls.images, names, state.place().image);
  for (const panel of panels) fill(panel.layer, layers, state.get(panel.side));
  const continuous = layers.filter(([layer]) => isContinuous(layer));
  fill(controls.kinds, continuous, state.get("threshold_of"));
  controls.film.steps.limits(0, maps.steps.length - 1);
  controls.film.node.hidden = maps.steps.length < 2;
  if (state.pixel >= maps.height * maps.width) state.pixel = null;
}

export function setLimits(state, controls) {
  const [low, high, step] = rangeOf(state.maps, state.get("threshold_of"));
  for (const input of [controls.threshold.lower, controls.threshold.upper]) input.step = step;
  controls.threshold.limits(low, high);
}
