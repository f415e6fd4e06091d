// What the tests share: points and maps made by hand, and numbers that look random but are not.
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const STATIC = new URL("../../dgcl_nb/static/", import.meta.url);
export const IGNORE = 255;

// The names of all modules: front/data.js and so on.
export function moduleNames() {
  const names = readdirSync(fileURLToPath(STATIC), { recursive: true });
  return names.map((name) => name.replaceAll("\\", "/")).filter((name) => name.endsWith(".js")).sort();
}

// A generator of numbers in [0, 1), the same at each run.
export function numbers(seed = 1) {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) % 4294967296;
    return state / 4294967296;
  };
}

// The columns of one step; what is not given is 0, and every point is shown.
export function makePoints(n, columns = {}) {
  const zeros = () => new Uint8Array(n);
  const points = { n, step: 7, k: 0, paint: {}, shown: zeros().fill(1) };
  const whole = ["label", "pseudo", "kind", "right", "image", "row", "col", "role"];
  for (const name of whole) points[name] = zeros();
  for (const name of ["density", "confidence"]) points[name] = new Float32Array(n);
  points.xy = new Float32Array(2 * n);
  points.key = Float64Array.from({ length: n }, (_, i) => i);
  return Object.assign(points, columns);
}

// Bytes as a model hands them over.
export function dataView(array) {
  return new DataView(array.buffer, array.byteOffset, array.byteLength);
}

// Two steps of one image of 2 x 4 pixels in 1 x 2 cells; three classes, the last one background.
export function makeMaps(changes = {}) {
  return {
    images: ["a"],
    image_size: [[2, 4]],
    shown_size: [[2, 4]],
    protocol: "whole images",
    steps: [10, 20],
    height: 2,
    width: 4,
    rows: 1,
    columns: 2,
    num_neighbors: [8, 16],
    class_names: ["sky", "road", "ground"],
    palette: [[10, 20, 30], [200, 0, 0], [0, 0, 0]],
    background: 2,
    ignore_index: IGNORE,
    ranges: { confidence: [0, 1, 0.01], entropy: [0, 2, 0.05], density: [-1, 1, 0.02] },
    image: new Uint8Array(24).fill(100),
    target: Uint8Array.of(0, 1, 2, IGNORE, 0, 0, 0, 0),
    prediction: Uint8Array.of(0, 0, 2, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1),
    pseudo_label: new Uint8Array(16).fill(2),
    kept: Uint8Array.of(1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    confidence: new Uint16Array(16).fill(32767),
    entropy: new Uint16Array(16),
    density: Uint16Array.of(1, 2, 3, 4, 5, 65535, 65534, 0, 0, 0, 0, 32767),
    ...changes
  };
}
