// What the colours mean.
import { check } from "../front/choice.js";
import { scaleCss } from "../front/colours.js";
import { make } from "../front/elements.js";
import { ENDS, NO_DENSITY } from "../front/ends.js";
import { RIGHT_WRONG, UNKNOWN } from "../front/palette.js";
import { SIGNED } from "./limits.js";
import { CHANGES } from "./names.js";
import { scaleOf } from "./paint.js";
import { colourChip, thousands } from "./words.js";

function classLegend(scene, points, by) {
  const hasGrey = by === "class" && points.label.includes(scene.ignore);
  const grey = hasGrey ? " Grey: true class unknown." : "";
  return [make("span", "dgcl-note", `Colours: see Classes.${grey}`)];
}

// A colour, what it means, and how many points have that value.
function countLine(values, rgb, text, wanted) {
  const count = values.reduce((sum, value) => sum + (value === wanted), 0);
  const name = make("span", "", colourChip(rgb), text);
  return make("div", "dgcl-name", name, make("span", "dgcl-value", thousands(count)));
}

function changeLegend({ change }) {
  return CHANGES.map(([text, rgb], kind) => countLine(change, rgb, text, kind));
}

function rightLegend({ said }, points) {
  const line = (...parts) => countLine(points.right, ...parts);
  return [
    line(RIGHT_WRONG[0], `${said} right`, 1),
    line(RIGHT_WRONG[1], `${said} wrong`, 0),
    line(UNKNOWN, "not known", -1)
  ];
}

// The ends of a scale are quantiles: values lie beyond them.
function scaleLegend(app, points, by) {
  const { scene } = app;
  if (by === "density" && points.n && points[by].every((value) => Number.isNaN(value))) {
    return [make("div", "dgcl-note", `Grey: ${NO_DENSITY}.`)];
  }
  const bar = make("div", "dgcl-scale");
  bar.style.background = scaleCss();
  const [low, high] = scaleOf(scene, points, by);
  const digits = high - low < 0.1 ? 3 : 2;
  const [lowEnd, highEnd] = ENDS[by];
  const texts = [`${lowEnd}, ≤ ${low.toFixed(digits)}`, `${highEnd}, ≥ ${high.toFixed(digits)}`];
  if (SIGNED.includes(by)) texts.splice(1, 0, "0");
  const parts = [bar, make("div", "dgcl-name", ...texts.map((text) => make("span", "", text)))];
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
  if (by === "class" || by === "pseudo") return classLegend(scene, points, by);
  if (by === "change") return changeLegend(points);
  return by === "right" ? rightLegend(scene, points) : scaleLegend(app, points, by);
}

export function showLegend(app) {
  const { legend } = app;
  const hadFocus = legend.querySelector(":focus"); // who has just pressed the box in it
  legend.replaceChildren(...legendParts(app, app.points()));
  if (hadFocus) legend.querySelector("input")?.focus({ preventScroll: true });
}
