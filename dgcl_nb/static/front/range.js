// A slider for a range: two inputs lie over each other on one track, each with its own focus and keys.
import { make } from "./elements.js";
import { decimals, rangeInput } from "./slider.js";

function boundInput(label, limits, bound, value) {
  const names = { low: "lower bound", high: "upper bound" };
  const input = rangeInput(limits, value, `${label}, ${names[bound]}`);
  input.dataset.bound = bound;
  return input;
}

// The coloured part of the track; and the handle that lies on top where both are at one end,
// so that it can be moved away from there.
function showTrack(track, lower, upper) {
  const [low, high] = [Number(upper.min), Number(upper.max)];
  const width = high - low || 1;
  const place = (value) => `${(100 * (value - low)) / width}%`;
  track.style.setProperty("--from", place(Number(lower.value)));
  track.style.setProperty("--to", place(Number(upper.value)));
  lower.style.zIndex = Number(lower.value) > (low + high) / 2 ? 2 : 1;
}

// What a control for a range can be told, beside what the user does.
function addMethods(field, lower, upper, show) {
  Object.assign(field, { lower, upper });
  field.values = () => [Number(lower.value), Number(upper.value)];
  field.set = (a, b) => {
    lower.value = a;
    upper.value = b;
    show();
  };
  field.limits = (low, high) => {
    const before = field.values();
    for (const input of [lower, upper]) {
      input.min = low;
      input.max = high;
    }
    field.set(...before);
  };
}

export function rangeSlider(label, { min, max, step, low, high, format, textOf }, onInput) {
  const text = format || ((v) => v.toFixed(decimals(step)));
  const words = textOf || ((a, b) => `${text(a)} to ${text(b)}`);
  const lower = boundInput(label, { min, max, step }, "low", low);
  const upper = boundInput(label, { min, max, step }, "high", high);
  const out = make("output", "dgcl-value");
  const track = make("div", "dgcl-track", lower, upper);
  const field = make("div", "dgcl-field dgcl-range", make("span", "dgcl-name", label, out), track);
  field.setAttribute("role", "group");
  field.setAttribute("aria-label", label);
  const show = () => {
    const [a, b] = field.values();
    out.textContent = words(a, b);
    showTrack(track, lower, upper);
  };
  // the moved handle stops at the other one
  const listen = (moved, other) => {
    moved.addEventListener("input", () => {
      const [a, b] = field.values();
      if (a > b) moved.value = other.value;
      show();
      onInput(...field.values());
    });
  };
  addMethods(field, lower, upper, show);
  listen(lower, upper);
  listen(upper, lower);
  show();
  return field;
}
