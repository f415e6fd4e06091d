// The colour of each pixel of a layer, blended with the image in grey.
import { colourMap } from "../front/colours.js";
import { RIGHT_WRONG, UNKNOWN } from "../front/palette.js";
import { TOP_LEVEL, UNKNOWN_LEVEL } from "./levels.js";
import {
  classReader, highestLevel, insideReader, isContinuous, levelAt, levelReader, numPixels
} from "./readers.js";

const LAST_COLOUR = 1023;
const SCALE_TABLE = Array.from({ length: LAST_COLOUR + 1 }, (_, i) => colourMap(i / LAST_COLOUR));

function scalePainter(maps, place, layer) {
  const levelOf = levelReader(maps, place, layer);
  return (pixel) => {
    const level = levelOf(pixel);
    if (level === UNKNOWN_LEVEL) return UNKNOWN;
    return SCALE_TABLE[Math.round((level * LAST_COLOUR) / TOP_LEVEL)];
  };
}

function rightPainter(maps, place) {
  const truth = classReader(maps, place, "target");
  const said = classReader(maps, place, "prediction");
  const [right, wrong] = RIGHT_WRONG;
  return (pixel) => {
    const c = truth(pixel);
    if (c === maps.ignore_index) return UNKNOWN;
    return c === said(pixel) ? right : wrong;
  };
}

export function classColour(maps, c) {
  return c === maps.ignore_index ? UNKNOWN : maps.palette[c] || UNKNOWN;
}

// A function from a pixel to its colour in a layer.
export function painter(maps, place, layer) {
  if (isContinuous(layer)) return scalePainter(maps, place, layer);
  if (layer === "right_wrong") return rightPainter(maps, place);
  const said = classReader(maps, place, layer);
  return (pixel) => classColour(maps, said(pixel));
}

// The filter of the view: whether a pixel is hidden, as its value is not between two. An unknown value is
// hidden as soon as anything is; with both at the ends of the range nothing is.
export function hider(maps, place, layer, from, to = Infinity) {
  const lowest = levelAt(maps, layer, from);
  const highest = highestLevel(maps, layer, to);
  if (lowest <= 0 && highest >= TOP_LEVEL) return () => false;
  const levelOf = levelReader(maps, place, layer);
  return (pixel) => {
    const level = levelOf(pixel);
    return level < lowest || level > highest; // an unknown one is above all
  };
}

// How much of the chosen opacity a pixel gets: background half of it, or little would be left to see of
// the image; all classes are alike where no class is background (null).
export function weightOf(maps, place, layer) {
  const isOfClasses = layer === "target" || layer === "prediction" || layer === "pseudo_label";
  if (!isOfClasses || maps.background === null) return () => 1;
  const said = classReader(maps, place, layer);
  return (pixel) => (said(pixel) === maps.background ? 0.5 : 1);
}

// Writes the picture of a layer into `out`, four bytes a pixel; alpha 0 is the image in grey.
export function compose(out, maps, place, layer, alpha, isHidden) {
  const colourOf = layer === "image" ? null : painter(maps, place, layer);
  const weight = weightOf(maps, place, layer);
  const isInside = insideReader(maps, place);
  const count = numPixels(maps);
  const first = place.image * count * 3;
  for (let pixel = 0; pixel < count; pixel++) {
    const from = first + 3 * pixel;
    const to = 4 * pixel;
    const [red, green, blue] = [maps.image[from], maps.image[from + 1], maps.image[from + 2]];
    out[to + 3] = isInside(pixel) ? 255 : 0; // beyond the image the page shows
    if (!colourOf) {
      [out[to], out[to + 1], out[to + 2]] = [red, green, blue];
      continue;
    }
    const grey = 0.299 * red + 0.587 * green + 0.114 * blue;
    const cover = isHidden(pixel) ? 0 : alpha * weight(pixel);
    const over = colourOf(pixel);
    for (let c = 0; c < 3; c++) out[to + c] = (1 - cover) * grey + cover * over[c];
  }
}
