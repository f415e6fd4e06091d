// Pointing at a pixel by mouse or keys: arrows move the crosshair by a pixel, Escape puts it away.
import { choice } from "../front/choice.js";
import { explain, make } from "../front/elements.js";
import { isContinuous } from "./readers.js";
import { pixelNear } from "./state.js";

const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

function pointTo(state, row, col) {
  state.pixel = pixelNear(state.maps, state.place().image, row, col);
  state.draw();
}

function pointNowhere(state) {
  state.pixel = null;
  state.draw();
}

// The first arrow goes to the middle.
function pointBy(state, [rows, cols]) {
  const { width, height } = state.maps;
  if (state.pixel === null) pointTo(state, Math.floor(height / 2), Math.floor(width / 2));
  else pointTo(state, Math.floor(state.pixel / width) + rows, (state.pixel % width) + cols);
}

function listenToPanel(state, canvas) {
  canvas.addEventListener("pointermove", (event) => {
    const { width, height } = state.maps;
    const box = canvas.getBoundingClientRect();
    const row = Math.floor(((event.clientY - box.top) / box.height) * height);
    const col = Math.floor(((event.clientX - box.left) / box.width) * width);
    pointTo(state, row, col);
  });
  canvas.addEventListener("pointerdown", () => canvas.focus());
  canvas.addEventListener("pointerleave", () => {
    if (document.activeElement !== canvas) pointNowhere(state);
  });
  canvas.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key];
    if (!arrow && event.key !== "Escape") return;
    event.preventDefault();
    if (arrow) pointBy(state, arrow);
    else pointNowhere(state);
  });
}

// A panel with its list of layers; as long as nothing is hidden, the threshold follows the layer that
// was chosen last.
export function panelOf(state, side) {
  const canvas = make("canvas", "dgcl-ov-panel");
  const chips = make("div", "dgcl-ov-legend");
  const layer = choice(`${side} layer`, [], "", (chosen) => {
    state.model.set(side, chosen);
    if (isContinuous(chosen) && state.isOff()) state.hideBy(chosen);
    else state.say(side, chosen);
  });
  explain(layer, `What the ${side} panel paints over the image`);
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.dataset.panel = side;
  listenToPanel(state, canvas);
  return { side, canvas, chips, layer, node: make("div", "dgcl-ov-side", layer, canvas, chips) };
}
