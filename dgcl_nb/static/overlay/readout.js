// All that is known of one pixel.
import { colourMap } from "../front/colours.js";
import { make } from "../front/elements.js";
import { classColour, hider } from "./compose.js";
import { layersOf } from "./layers.js";
import { colourBox } from "./legend.js";
import { classReader, droppedReader, isContinuous, levelReader, rangeOf, valueOf } from "./readers.js";

function className(maps, c) {
  return c === maps.ignore_index ? "unknown" : maps.class_names[c] ?? `class ${c}`;
}

function verdict(maps, truth, c) {
  if (truth === maps.ignore_index) return "";
  return c === truth ? ", right" : ", wrong";
}

function classRows(maps, place, pixel) {
  const classOf = (layer) => classReader(maps, place, layer)(pixel);
  const [truth, said, pseudo] = ["target", "prediction", "pseudo_label"].map(classOf);
  const box = (c, text) => colourBox(classColour(maps, c), className(maps, c) + text);
  const isDropped = droppedReader(maps, place)(pixel);
  return [
    ["target", box(truth, "")],
    ["prediction", box(said, verdict(maps, truth, said))],
    ["pseudo-label", box(pseudo, verdict(maps, truth, pseudo))],
    ["the filter", isDropped ? "drops it" : "keeps it"]
  ];
}

function valueRow(maps, place, pixel, [layer, name]) {
  const value = valueOf(maps, layer, levelReader(maps, place, layer)(pixel));
  const [low, high] = rangeOf(maps, layer);
  const colour = colourMap((value - low) / (high - low || 1));
  const text = Number.isNaN(value) ? "unknown" : value.toFixed(3);
  return [name.replace(/ of k = .*/, ""), colourBox(colour, text)];
}

export function readout(maps, place, pixel, options) {
  const layers = layersOf(maps).filter(([layer]) => isContinuous(layer));
  const values = layers.map((layer) => valueRow(maps, place, pixel, layer));
  const rows = [...classRows(maps, place, pixel), ...values];
  const lines = rows.map(([name, value]) => make("tr", "", make("th", "", name), make("td", "", value)));
  const isHidden = hider(maps, place, options.thresholdOf, ...options.bounds)(pixel);
  const note = isHidden ? [make("span", "dgcl-note", " hidden by the threshold")] : [];
  const where = `row ${Math.floor(pixel / maps.width)}, column ${pixel % maps.width}`;
  return [make("div", "dgcl-ov-head", where, ...note), make("table", "", ...lines)];
}
