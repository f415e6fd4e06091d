// A colour for each point: a number of one byte, and a table that says which colour that is.
import { colourMap } from "../front/colours.js";
import { RIGHT_WRONG, UNKNOWN } from "../front/palette.js";
import { middleOf } from "./limits.js";
import { CHANGES } from "./names.js";

// The number of what is not known; 0 to 254 are values.
const UNKNOWN_PAINT = 255;

// From where to where the scale goes: over one step, or over all where they are compared.
export function scaleOf(scene, points, by) {
  return middleOf(scene.oneScale ? scene.steps : [points], by);
}

function paintValues(values, [low, high]) {
  const scale = 254 / (high - low);
  const paint = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const level = Math.min(Math.max((values[i] - low) * scale, 0), 254);
    paint[i] = Number.isNaN(values[i]) ? UNKNOWN_PAINT : level;
  }
  return paint;
}

// The number of each point; made once for a step, a quantity and a scale.
export function paintOf(scene, points, by) {
  if (by === "class") return points.label;
  if (by === "pseudo") return points.pseudo;
  if (by === "change") return points.change;
  const key = `${by} ${scene.oneScale}`;
  if (!points.paint[key]) {
    points.paint[key] = by === "right"
      ? Uint8Array.from(points.right, (right) => (right < 0 ? UNKNOWN_PAINT : right))
      : paintValues(points[by], scaleOf(scene, points, by));
  }
  return points.paint[key];
}

// 256 colours; grey for what is not known, be it a class without a colour.
export function tableOf(scene, by) {
  const table = new Array(256).fill(UNKNOWN);
  if (by === "class" || by === "pseudo") {
    scene.palette.forEach((rgb, c) => {
      table[c] = rgb;
    });
  } else if (by === "change") {
    CHANGES.forEach(([, rgb], kind) => {
      table[kind] = rgb;
    });
  } else if (by === "right") {
    [table[1], table[0]] = RIGHT_WRONG;
  } else {
    for (let j = 0; j < UNKNOWN_PAINT; j++) table[j] = colourMap(j / 254);
  }
  return table;
}
