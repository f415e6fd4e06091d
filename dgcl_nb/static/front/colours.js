// The colour scale, contrast, and the theme's colours as numbers.
import { CIVIDIS, UNKNOWN } from "./palette.js";

// The colour of a value in [0, 1]; beyond is cut, NaN is unknown.
export function colourMap(t) {
  if (Number.isNaN(t)) return UNKNOWN;
  const last = CIVIDIS.length - 1;
  const place = Math.min(Math.max(t, 0), 1) * last;
  const stop = Math.min(Math.floor(place), last - 1);
  const share = place - stop;
  const [low, high] = [CIVIDIS[stop], CIVIDIS[stop + 1]];
  return low.map((value, channel) => Math.round(value + share * (high[channel] - value)));
}

export function css(rgb, alpha = 1) {
  return `rgba(${rgb[0]},${rgb[1]},${rgb[2]},${alpha})`;
}

export function scaleCss() {
  const stops = CIVIDIS.map((rgb) => css(rgb));
  return `linear-gradient(to right, ${stops.join(", ")})`;
}

// The linear light of a channel (WCAG 2.1).
function linearLight(channel) {
  const value = channel / 255;
  return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
}

export function luminance(rgb) {
  const [red, green, blue] = rgb.map(linearLight);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

// 1 (the same lightness) to 21 (black on white).
export function contrast(one, other) {
  const [a, b] = [luminance(one), luminance(other)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

// "#rrggbb" or "rgba(r, g, b, a)", as a canvas writes a colour.
export function rgbOf(text) {
  const found = /rgba?\((\d+), (\d+), (\d+)/.exec(text);
  if (found) return found.slice(1, 4).map(Number);
  return [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16));
}

let colourProbe = null; // the context of a canvas that knows all names of colours; made once

// A variable of the theme, e.g. themeColour(root, "--ground", "#ffffff"). The canvas knows all names
// and notations of colours; one that it does not know leaves the value before.
export function themeColour(el, name, otherwise) {
  const wanted = getComputedStyle(el).getPropertyValue(name).trim() || otherwise;
  colourProbe = colourProbe || document.createElement("canvas").getContext("2d");
  colourProbe.fillStyle = otherwise;
  colourProbe.fillStyle = wanted;
  return rgbOf(colourProbe.fillStyle);
}
