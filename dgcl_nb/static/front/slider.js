// A slider for one value.
import { make } from "./elements.js";

// As many decimals as a step has, at most six: 0.05 has two.
export function decimals(step) {
  return Math.max(0, Math.min(6, Math.ceil(-Math.log10(step) - 1e-9)));
}

export function rangeInput({ min, max, step }, value, name) {
  const input = make("input");
  Object.assign(input, { type: "range", min, max, step, value });
  input.setAttribute("aria-label", name);
  return input;
}

export function slider(label, { min, max, step, value, format }, onInput) {
  const text = format || ((v) => v.toFixed(decimals(step)));
  const input = rangeInput({ min, max, step }, value, label);
  const out = make("output", "dgcl-value");
  const field = make("label", "dgcl-field", make("span", "dgcl-name", label, out), input);
  const show = () => {
    out.textContent = text(Number(input.value));
  };
  input.addEventListener("input", () => {
    show();
    onInput(Number(input.value));
  });
  field.input = input;
  field.set = (v) => {
    input.value = v;
    show();
  };
  field.limits = (low, high) => {
    const before = input.value;
    input.min = low;
    input.max = high;
    field.set(before);
  };
  show();
  return field;
}
