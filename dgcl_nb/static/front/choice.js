// A list of choices, and a box to tick.
import { labelled, make } from "./elements.js";

// `options` are texts, or pairs of a key and its text.
export function fillOptions(select, options) {
  const pairs = options.map((option) => (Array.isArray(option) ? option : [option, option]));
  select.replaceChildren(...pairs.map(([key, text]) => new Option(text, key)));
}

export function choice(label, options, value, onChange) {
  const select = make("select");
  fillOptions(select, options);
  select.value = value;
  select.addEventListener("change", () => onChange(select.value));
  const field = labelled(label, select);
  field.set = (key) => {
    select.value = key;
  };
  return field;
}

export function check(label, value, onChange) {
  const box = make("input");
  box.type = "checkbox";
  box.checked = value;
  box.addEventListener("change", () => onChange(box.checked));
  const field = make("label", "dgcl-check", box, make("span", "dgcl-name", label));
  field.input = box;
  field.set = (on) => {
    box.checked = on;
  };
  return field;
}
