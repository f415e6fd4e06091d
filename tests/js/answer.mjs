// Answers a question of tests/test_parity.py: what the page's functions make of values that Python packed.
// stdin: { question, ... } as json_with_bytes writes it; stdout: JSON, unknown numbers as null.
import { readFileSync } from "node:fs";
import { csvOf } from "../../dgcl_nb/static/explorer/csv.js";
import { filterPoints } from "../../dgcl_nb/static/explorer/filter.js";
import { neighboursOf } from "../../dgcl_nb/static/explorer/near.js";
import { unpack } from "../../dgcl_nb/static/explorer/scene.js";
import { summarise } from "../../dgcl_nb/static/explorer/selection.js";
import { carryOver } from "../../dgcl_nb/static/explorer/time.js";
import { colourMap } from "../../dgcl_nb/static/front/colours.js";
import { typed } from "../../dgcl_nb/static/front/data.js";
import { revive } from "../../dgcl_nb/static/front/page_model.js";
import { loadMaps } from "../../dgcl_nb/static/overlay/maps.js";
import { classReader, isContinuous, levelReader, valueOf } from "../../dgcl_nb/static/overlay/readers.js";

const SENT = ["xy", "label", "pseudo", "density", "confidence", "image", "row", "col", "role"];
const COLUMNS = [...SENT, "kind", "right"];

function columns({ scene }) {
  return unpack(scene).steps.map((points) => COLUMNS.map((name) => [...points[name]]));
}

// The rows that are shown, for each condition { step, density, confidence, classes }.
function shown({ scene, conditions }) {
  const { steps } = unpack(scene);
  return conditions.map(({ step, density, confidence, classes }) => {
    const points = steps[step];
    const { count } = filterPoints(points, density, confidence, classes);
    return { count, rows: [...points.shown.keys()].filter((i) => points.shown[i]) };
  });
}

function neighbours({ scene, step, rows }) {
  const points = unpack(scene).steps[step];
  const found = rows.map((i) => neighboursOf({}, points, i));
  return found.map((near) => ({ rows: [...near.rows], cosines: [...near.cosines] }));
}

function summary({ scene, step, rows }) {
  return summarise(unpack(scene).steps[step], rows);
}

function csv({ scene, step, rows }) {
  const unpacked = unpack(scene);
  return csvOf(unpacked, unpacked.steps[step], rows);
}

function carried({ scene, rows }) {
  const { steps } = unpack(scene);
  return carryOver(rows, steps[0], steps[1]);
}

function colours({ values }) {
  return [...typed(values, Float32Array)].map(colourMap);
}

// All values of each continuous layer and all classes of each other one, at each step and image.
async function maps({ values, layers }) {
  globalThis.window = globalThis; // what a browser calls so
  const found = await loadMaps({ get: (name) => values[name] });
  const pixels = [...Array(found.height * found.width).keys()];
  const places = found.steps.flatMap((_, step) => found.images.map((_name, image) => ({ step, image })));
  const read = (layer, place) => {
    if (!isContinuous(layer)) return pixels.map(classReader(found, place, layer));
    const levelOf = levelReader(found, place, layer);
    return pixels.map((pixel) => valueOf(found, layer, levelOf(pixel)));
  };
  return layers.map((layer) => places.map((place) => read(layer, place)));
}

const ANSWERS = { columns, shown, neighbours, summary, csv, carried, colours, maps };
const given = revive(JSON.parse(readFileSync(0, "utf8")));
process.stdout.write(JSON.stringify(await ANSWERS[given.question](given)));
