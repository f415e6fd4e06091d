// Selected pixels as a table in a file: the columns of ExplorerState.table.
import { make } from "../front/elements.js";
import { className } from "./words.js";

const HEAD = "step,point,x,y,image_id,row,col,pixel_x,pixel_y,true_class,pseudo_label,right," +
  "density,confidence,role";

// Six digits; empty where the value is not known.
function short(value) {
  return Number.isNaN(value) ? "" : String(Number(value.toPrecision(6)));
}

function quoted(text) {
  return /[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
}

function yesOrNo(right) {
  if (right < 0) return "";
  return right ? "yes" : "no";
}

// The middle of a cell in pixels of the image; empty where there is no grid, or no image.
function pixelOf(cell, length, cells) {
  return cells && length ? short(((cell + 0.5) * length) / cells) : "";
}

function lineOf(scene, points, i) {
  const [height, width] = scene.image_size;
  const [rows, columns] = scene.grid;
  const nameOf = (c) => (c === scene.ignore ? "" : quoted(className(scene, c)));
  const image = points.image[i];
  const values = [
    points.step, i, short(points.xy[2 * i]), short(points.xy[2 * i + 1]),
    image < 0 ? "" : quoted(scene.image_ids[image]), points.row[i], points.col[i],
    pixelOf(points.col[i], width, columns), pixelOf(points.row[i], height, rows),
    nameOf(points.label[i]), nameOf(points.pseudo[i]), yesOrNo(points.right[i]),
    short(points.density[i]), short(points.confidence[i]), scene.roles[points.role[i]]
  ];
  return values.join(",");
}

export function csvOf(scene, points, rows) {
  return [HEAD, ...rows.map((i) => lineOf(scene, points, i)), ""].join("\r\n");
}

export function download(text, name) {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  // the browser needs the address until it has read it
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
