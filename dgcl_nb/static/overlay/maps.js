// Unpack the maps of all steps and images.
import { typed } from "../front/data.js";

export const MAP_TYPES = {
  image: Uint8Array,
  target: Uint8Array,
  prediction: Uint8Array,
  pseudo_label: Uint8Array,
  kept: Uint8Array,
  confidence: Uint16Array,
  entropy: Uint16Array,
  density: Uint16Array
};

const TOO_OLD = "this browser is too old to unpack the maps " +
  "(Chrome 80, Firefox 113, Safari 16.4 and later can)";

async function inflate(data) {
  if (!window.DecompressionStream) throw new Error(TOO_OLD);
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new DataView(await new Response(stream).arrayBuffer());
}

// What describe_maps tells, and one typed array for each name of MAP_TYPES.
export async function loadMaps(model) {
  const names = Object.keys(MAP_TYPES);
  const found = await Promise.all(names.map((name) => inflate(model.get(name))));
  const arrays = names.map((name, i) => [name, typed(found[i], MAP_TYPES[name])]);
  return { ...model.get("meta"), ...Object.fromEntries(arrays) };
}
