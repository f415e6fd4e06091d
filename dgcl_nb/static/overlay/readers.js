// Which class, which level, in which cell: functions of a pixel, for the image and step at a `place`.
// A pixel is its number, row by row.
import { TOP_LEVEL, UNKNOWN_LEVEL } from "./levels.js";

export function isContinuous(layer) {
  return layer === "confidence" || layer === "entropy" || layer.startsWith("density");
}

export function numPixels(maps) {
  return maps.height * maps.width;
}

// Whether a pixel lies in the image at a place; one that is smaller than the maps fills their upper left
// corner.
export function insideReader(maps, place) {
  const [rows, columns] = maps.shown_size[place.image];
  return (pixel) => pixel % maps.width < columns && Math.floor(pixel / maps.width) < rows;
}

// The number of the image among those of all steps.
function imageNumber(maps, place) {
  return place.step * maps.images.length + place.image;
}

// The cell that the middle of a pixel lies in.
export function cellOf(maps, pixel) {
  const row = Math.floor(pixel / maps.width);
  const col = pixel % maps.width;
  const cellRow = Math.floor(((row + 0.5) * maps.rows) / maps.height);
  const cellCol = Math.floor(((col + 0.5) * maps.columns) / maps.width);
  return cellRow * maps.columns + cellCol;
}

// Which of the densities a layer is: the mean comes first, then one for each number of neighbours.
function densityNumber(maps, layer) {
  if (layer === "density") return 0;
  return 1 + maps.num_neighbors.indexOf(Number(layer.split("_")[1]));
}

function densityReader(maps, place, layer) {
  const { density, num_neighbors, rows, columns } = maps;
  const count = 1 + num_neighbors.length;
  const map = imageNumber(maps, place) * count + densityNumber(maps, layer);
  const first = map * rows * columns;
  return (pixel) => density[first + cellOf(maps, pixel)];
}

export function levelReader(maps, place, layer) {
  if (layer.startsWith("density")) return densityReader(maps, place, layer);
  const levels = maps[layer];
  const first = imageNumber(maps, place) * numPixels(maps);
  return (pixel) => levels[first + pixel];
}

// The target is the same at every step.
export function classReader(maps, place, layer) {
  const classes = maps[layer];
  const number = layer === "target" ? place.image : imageNumber(maps, place);
  const first = number * numPixels(maps);
  return (pixel) => classes[first + pixel];
}

// Whether the filter of the method drops the pixel's pseudo-label.
export function droppedReader(maps, place) {
  const { kept } = maps;
  const first = imageNumber(maps, place) * numPixels(maps);
  return (pixel) => !kept[first + pixel];
}

// low, high and step; one range serves all densities
export function rangeOf(maps, layer) {
  return maps.ranges[layer.split("_")[0]];
}

// NaN where it is not known.
export function valueOf(maps, layer, level) {
  if (level === UNKNOWN_LEVEL) return NaN;
  const [low, high] = rangeOf(maps, layer);
  return low + ((high - low) * level) / TOP_LEVEL;
}

// The highest level whose value is not above `value`.
export function highestLevel(maps, layer, value) {
  if (value === Infinity) return TOP_LEVEL;
  const [low, high] = rangeOf(maps, layer);
  return Math.floor(((value - low) / (high - low || 1)) * TOP_LEVEL + 1e-6);
}

// The lowest level whose value is not below `value`.
export function levelAt(maps, layer, value) {
  const [low, high] = rangeOf(maps, layer);
  return Math.ceil(((value - low) / (high - low || 1)) * TOP_LEVEL - 1e-6);
}
