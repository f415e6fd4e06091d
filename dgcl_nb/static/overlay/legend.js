// What the colours of a layer mean, and how much of the image they cover.
import { css, scaleCss } from "../front/colours.js";
import { make } from "../front/elements.js";
import { ENDS, MEANING, NO_DENSITY } from "../front/ends.js";
import { RIGHT_WRONG, UNKNOWN } from "../front/palette.js";
import { UNKNOWN_LEVEL } from "./levels.js";
import {
  classReader, droppedReader, insideReader, isContinuous, levelReader, numPixels, rangeOf
} from "./readers.js";
import { shareOf, valueText, wholePercent } from "./shares.js";

const MOST_CLASSES = 24; // of more, only those that are seen are named

export function colourBox(rgb, text, isHatched = false) {
  const box = make("span", isHatched ? "dgcl-ov-box dgcl-ov-hatched" : "dgcl-ov-box");
  if (rgb) box.style.backgroundColor = css(rgb);
  return make("span", "dgcl-ov-chip", box, text);
}

function scaleLegend(maps, place, layer) {
  const kind = layer.split("_")[0];
  const [low, high] = rangeOf(maps, layer).map((value) => valueText(maps, layer, value));
  const levelOf = levelReader(maps, place, layer);
  const unknown = shareOf(maps, place, (pixel) => levelOf(pixel) === UNKNOWN_LEVEL);
  if (unknown === 1 && kind === "density") return [colourBox(UNKNOWN, NO_DENSITY)];
  const bar = make("span", "dgcl-ov-scale");
  bar.style.background = scaleCss();
  const [lowEnd, highEnd] = ENDS[kind];
  const scale = make("span", "dgcl-ov-chip dgcl-ov-wide", `${lowEnd} ${low}`, bar, `${high} ${highEnd}`);
  const parts = [scale, make("span", "dgcl-note", `${kind}: ${MEANING[kind]}`)];
  if (unknown > 0) {
    const text = `unknown, ${wholePercent(unknown)}: nothing to compare with yet`;
    parts.push(colourBox(UNKNOWN, text));
  }
  return parts;
}

function classesSeen(maps, place, layer) {
  const said = classReader(maps, place, layer);
  const seen = new Set();
  const isInside = insideReader(maps, place);
  for (let pixel = 0; pixel < numPixels(maps); pixel++) if (isInside(pixel)) seen.add(said(pixel));
  return seen;
}

function classLegend(maps, place, layer) {
  const seen = classesSeen(maps, place, layer);
  const names = maps.class_names;
  const parts = names.map((name, c) => colourBox(maps.palette[c], name));
  const named = parts.filter((_, c) => names.length <= MOST_CLASSES || seen.has(c));
  if (seen.has(maps.ignore_index)) named.push(colourBox(UNKNOWN, "unknown"));
  if (layer === "pseudo_label") {
    const share = wholePercent(shareOf(maps, place, droppedReader(maps, place)));
    named.push(colourBox(null, `dropped by the filter, ${share}`, true));
  }
  return named;
}

// Each is counted: a remainder of two shares is rarely an exact 0.
export function rightShares(maps, place) {
  const truth = classReader(maps, place, "target");
  const said = classReader(maps, place, "prediction");
  const isKnown = (pixel) => truth(pixel) !== maps.ignore_index;
  return {
    right: shareOf(maps, place, (pixel) => isKnown(pixel) && truth(pixel) === said(pixel)),
    wrong: shareOf(maps, place, (pixel) => isKnown(pixel) && truth(pixel) !== said(pixel)),
    unknown: shareOf(maps, place, (pixel) => !isKnown(pixel))
  };
}

function rightLegend(maps, place) {
  const { right, wrong, unknown } = rightShares(maps, place);
  const parts = [
    colourBox(RIGHT_WRONG[0], `right, ${wholePercent(right)}`),
    colourBox(RIGHT_WRONG[1], `wrong, ${wholePercent(wrong)}`)
  ];
  if (unknown > 0) parts.push(colourBox(UNKNOWN, `unknown, ${wholePercent(unknown)}`));
  return parts;
}

const sized = ([rows, columns]) => `${rows} × ${columns}`;

// What the picture is: all of an image or not known to be, how large there and here.
export function imageWords(maps, place) {
  const [whole, shown] = [maps.image_size[place.image], maps.shown_size[place.image]];
  const cells = `density in ${sized([maps.rows, maps.columns])} cells`;
  if (whole[0] === 0) return `${sized(shown)} pixels, as an older version kept them; ${cells}`;
  const isScaled = sized(whole) !== sized(shown);
  const size = isScaled ? `${sized(whole)} pixels, shown at ${sized(shown)}` : `${sized(shown)} pixels`;
  return `the whole image of ${size}; ${cells}${maps.protocol && `; prediction: ${maps.protocol}`}`;
}

export function legend(maps, place, layer) {
  if (layer === "image") {
    return [make("span", "dgcl-note", imageWords(maps, place))];
  }
  if (isContinuous(layer)) return scaleLegend(maps, place, layer);
  if (layer === "right_wrong") return rightLegend(maps, place);
  return classLegend(maps, place, layer);
}
