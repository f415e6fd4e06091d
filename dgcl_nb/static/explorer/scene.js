// The scene as columns of each step.
import { typed } from "../front/data.js";

// With more points than these, of those in one pixel one is drawn, and a step changes at once.
export const MANY = 20_000;

const COLUMN_TYPES = {
  xy: Float32Array,
  label: Uint8Array,
  pseudo: Uint8Array,
  density: Float32Array,
  confidence: Float32Array,
  image: Int16Array,
  row: Uint16Array,
  col: Uint16Array,
  role: Uint8Array
};

// What became of each cell from the first step to the second, where these are two runs.
const COMPARED_TYPES = { change: Uint8Array, shift: Float32Array };

const UNKNOWN_LEVEL = 65535;
const LOST = 2 ** 52; // above the number of every cell of an image

// Values that Python rounded to levels (pack_levels): the least one, and the step between two.
export function fromLevels(levels, [low, step]) {
  const values = new Float32Array(levels.length);
  for (let i = 0; i < levels.length; i++) {
    values[i] = levels[i] === UNKNOWN_LEVEL ? NaN : low + step * levels[i];
  }
  return values;
}

// A column of all steps, be it exact or in levels.
function columnOf(scene, name, Type) {
  const scale = scene.levels?.[name];
  return scale ? fromLevels(typed(scene[name], Uint16Array), scale) : typed(scene[name], Type);
}

// The part of each column that belongs to `count` points from `first` on.
function cutColumns(columns, first, count) {
  const cut = {};
  for (const [name, values] of columns) {
    const width = name === "xy" ? 2 : 1;
    cut[name] = values.subarray(width * first, width * (first + count));
  }
  return cut;
}

// A number for each of some images, by their names: `known` (a map) gives a name that it has seen the same
// number again, and grows by those that it has not.
function numbersOf(names, known) {
  for (const name of names) {
    if (!known.has(name)) known.set(name, known.size);
  }
  return names.map((name) => known.get(name));
}

// A number that names a cell, the same in every step. One of an image that was not kept is known by its
// row, in its step alone; no number of the others is as large.
function cellKey({ step, image, row, col }, i, numbers) {
  return image[i] < 0 ? LOST + step * 2 ** 21 + i : (numbers[image[i]] * 65536 + row[i]) * 65536 + col[i];
}

// What follows from the columns: the class that filters go by; right (1), wrong (0) or not known (-1);
// and the number of the cell.
function addDerived(points, ignore, numbers) {
  const { label, pseudo } = points;
  const { n } = points;
  points.kind = new Uint8Array(n);
  points.right = new Int8Array(n);
  points.key = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    const isJudged = label[i] !== ignore && pseudo[i] !== ignore;
    points.kind[i] = label[i] === ignore ? pseudo[i] : label[i];
    points.right[i] = isJudged ? Number(label[i] === pseudo[i]) : -1;
    points.key[i] = cellKey(points, i, numbers);
  }
}

// The smallest box around the points of all steps: left, right, bottom, top.
export function bounds(steps) {
  let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const { xy, n } of steps) {
    for (let i = 0; i < n; i++) {
      const [x, y] = [xy[2 * i], xy[2 * i + 1]];
      if (x < left) left = x;
      if (x > right) right = x;
      if (y < bottom) bottom = y;
      if (y > top) top = y;
    }
  }
  return left > right ? [0, 1, 0, 1] : [left, right, bottom, top];
}

// `scene` as Python sends it (make_scene); each of its steps gets the columns of its n points, and
// `shown`, which the filter writes. A cell has the same number in all scenes that are unpacked with one map
// of the names of their images, `known`: scenes number their images as they come.
export function unpack(scene, known = new Map()) {
  const types = scene.compared ? { ...COLUMN_TYPES, ...COMPARED_TYPES } : COLUMN_TYPES;
  const columns = Object.entries(types).map(([name, Type]) => [name, columnOf(scene, name, Type)]);
  const near = typed(scene.near, Uint16Array);
  const cosines = typed(scene.cosines, Int16Array);
  let first = 0;
  let firstNear = 0;
  const numbers = numbersOf(scene.image_ids || [], known);
  const steps = scene.steps.map(({ step, n, k, name }) => {
    const endNear = firstNear + n * k;
    const own = cutColumns(columns, first, n);
    const points = { step, n, k, name, paint: {}, shown: new Uint8Array(n), ...own };
    points.near = near.subarray(firstNear, endNear);
    points.cosines = cosines.subarray(firstNear, endNear);
    addDerived(points, scene.ignore, numbers);
    first += n;
    firstNear = endNear;
    return points;
  });
  const hasRoles = typed(scene.role, Uint8Array).some((role) => role > 0);
  const said = scene.said || "pseudo-label"; // what the class that a network says is called
  const thumbs = typed(scene.thumbs, Uint8Array);
  return { ...scene, known, said, hasRoles, steps, thumbs, pictures: [], box: bounds(steps) };
}
