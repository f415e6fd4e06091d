// What the colours mean.
import { check } from "../front/choice.js";
import { scaleCss } from "../front/colours.js";
import { make } from "../front/elements.js";
import { ENDS, NO_DENSITY, NO_OWN_DENSITY } from "../front/ends.js";
import { RIGHT_WRONG, UNKNOWN } from "../front/palette.js";
import { decimals } from "../front/slider.js";
import { UNTOLD } from "./changes.js";
import { SIGNED } from "./limits.js";
import { CHANGES } from "./names.js";
import { scaleOf } from "./paint.js";
import { colourChip, isOwnDensity, thousands } from "./words.js";

// What is said of the colours of classes, and of the grey of cells whose class is not known.
export function classText(scene, points, by) {
  const isTruth = by === "class";
  const classes = isTruth ? points.label : points.pseudo;
  const name = isTruth ? "true class" : scene.said;
  if (points.n && classes.every((c) => c === scene.ignore)) return `Grey: no ${name} is known.`;
  const grey = classes.includes(scene.ignore) ? ` Grey: ${name} unknown.` : "";
  return `Colours: see Classes.${grey}`;
}

// A colour, what it means, and how many points have that value.
function countLine(values, rgb, text, wanted) {
  const count = values.reduce((sum, value) => sum + (value === wanted), 0);
  const name = make("span", "", colourChip(rgb), text);
  return make("div", "dgcl-name", name, make("span", "dgcl-value", thousands(count)));
}

function changeLegend({ change }) {
  const kinds = CHANGES.map(([text, rgb], kind) => countLine(change, rgb, text, kind));
  return change.includes(UNTOLD) ? [...kinds, countLine(change, UNKNOWN, "not known", UNTOLD)] : kinds;
}

function rightLegend({ said }, points) {
  const line = (...parts) => countLine(points.right, ...parts);
  return [
    line(RIGHT_WRONG[0], `${said} right`, 1),
    line(RIGHT_WRONG[1], `${said} wrong`, 0),
    line(UNKNOWN, "not known", -1)
  ];
}

// Decimals by which the ends of a scale can be told apart.
export function scaleDigits(low, high) {
  return Math.max(2, decimals((high - low) / 10));
}

// The ends of a scale are quantiles: values lie beyond them.
function scaleLegend(app, points, by) {
  const { scene } = app;
  if (by === "density" && points.n && points[by].every((value) => Number.isNaN(value))) {
    return [make("div", "dgcl-note", `Grey: ${isOwnDensity(scene) ? NO_OWN_DENSITY : NO_DENSITY}.`)];
  }
  const bar = make("div", "dgcl-scale");
  bar.style.background = scaleCss();
  const [low, high] = scaleOf(scene, points, by);
  const digits = scaleDigits(low, high);
  const [lowEnd, highEnd] = ENDS[by];
  const texts = [`${lowEnd}, ≤ ${low.toFixed(digits)}`, `${highEnd}, ≥ ${high.toFixed(digits)}`];
  const parts = [bar, make("div", "dgcl-name", ...texts.map((text) => make("span", "", text)))];
  if (SIGNED.includes(by)) parts.push(make("div", "dgcl-note", "In the middle: no change."));
  if (points[by].some((value) => Number.isNaN(value))) {
    parts.push(make("div", "dgcl-note", `Grey: ${by} unknown.`));
  }
  if (scene.steps.length > 1) {
    const setScale = (isOne) => {
      scene.oneScale = isOne;
      app.recolour();
    };
    parts.push(check("one scale for all steps", Boolean(scene.oneScale), setScale));
  }
  return parts;
}

function legendParts(app, points) {
  const { scene, by } = app;
  const isOfClasses = by === "class" || by === "pseudo";
  if (isOfClasses) return [make("span", "dgcl-note", classText(scene, points, by))];
  if (by === "change") return changeLegend(points);
  return by === "right" ? rightLegend(scene, points) : scaleLegend(app, points, by);
}

export function showLegend(app) {
  const { legend } = app;
  const hadFocus = legend.querySelector(":focus"); // who has just pressed the box in it
  legend.replaceChildren(...legendParts(app, app.points()));
  if (hadFocus) legend.querySelector("input")?.focus({ preventScroll: true });
}
