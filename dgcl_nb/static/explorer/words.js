// The values of a point in words. What is not known is called so.
import { css } from "../front/colours.js";
import { make } from "../front/elements.js";
import { UNKNOWN } from "../front/palette.js";

export function fixed(value, digits = 3) {
  return value === null || Number.isNaN(value) ? "unknown" : value.toFixed(digits);
}

// 12 345
export function thousands(count) {
  return count.toLocaleString("en").replace(/,/g, " ");
}

// A few are not none, and all but a few are not all.
export function percent(share) {
  if (Number.isNaN(share)) return "unknown";
  if (share > 0 && share < 0.0005) return "< 0.1 %";
  if (share < 1 && share > 0.9995) return "> 99.9 %";
  return `${(100 * share).toFixed(1)} %`;
}

// Only a network that is trained here has pseudo-labels and a memory bank, and will know more later.
export function isForeign({ said }) {
  return said === "prediction";
}

// Whether density is that among the cells on view. Two runs are compared by one density, whatever their
// methods remember.
export function isOwnDensity(scene) {
  return isForeign(scene) || Boolean(scene.compared);
}

export function className(scene, c) {
  return c === scene.ignore ? "unknown" : scene.class_names[c] ?? `class ${c}`;
}

export function colourChip(rgb) {
  const node = make("span", "dgcl-chip");
  node.style.background = css(rgb);
  return node;
}

export function classChip(scene, c) {
  return colourChip(scene.palette[c] || UNKNOWN);
}

function verdictOf(right) {
  if (right < 0) return "";
  return right ? " (right)" : " (wrong)";
}

function placeOf(scene, points, i) {
  if (points.image[i] < 0) return "not kept in the snapshot";
  return `${scene.image_ids[points.image[i]]}, row ${points.row[i]}, column ${points.col[i]}`;
}

// Rows of a name, a text and, where it is one, the number of a class.
export function valuesOf(scene, points, i) {
  const [label, pseudo] = [points.label[i], points.pseudo[i]];
  return [
    ["true class", className(scene, label), label],
    [scene.said, className(scene, pseudo) + verdictOf(points.right[i]), pseudo],
    ["density", fixed(points.density[i])],
    ["confidence", fixed(points.confidence[i])],
    ...(scene.hasRoles ? [["role", scene.roles[points.role[i]] || "none"]] : []),
    ["image", placeOf(scene, points, i)]
  ];
}

// A cell that names its row.
export function rowHead(text) {
  const head = make("th", "", text);
  head.scope = "row";
  return head;
}

export function valueTable(scene, rows) {
  const table = make("table", "dgcl-values");
  for (const [name, text, c] of rows) {
    const chips = c === undefined ? [] : [classChip(scene, c)];
    table.append(make("tr", "", rowHead(name), make("td", "", ...chips, text)));
  }
  return table;
}
