// The explorer.
import { hiDpi, throttle, watchRatio } from "../front/draw.js";
import { frontRoot } from "../front/elements.js";
import { makeApp } from "./app.js";
import { build } from "./build.js";
import { followModel, showStep } from "./follow.js";
import { listenToKeys } from "./keys.js";
import { showLegend } from "./legend.js";
import { COLOURS, COMPARED } from "./names.js";
import { tableOf } from "./paint.js";
import { markAll, paintAll } from "./paint_all.js";
import { listenToPointer } from "./pointer.js";

// How the view is redrawn: each at most once a frame.
function addDrawing(app) {
  app.draw = throttle(() => paintAll(app));
  app.mark = throttle(() => {
    if (app.ground) markAll(app); // not before the first drawing
  });
  app.again = () => requestAnimationFrame(() => app.draw());
  app.describe = () => {
    const { scene, by, model } = app;
    const { n, step, name } = app.points();
    const colour = `coloured by ${COLOURS[by] || COMPARED[by]}`;
    const where = name ? `of ${name}` : `at step ${step}`;
    const what = `Scatter of ${n} cells ${where}, ${scene.layout} layout, ${colour}.`;
    app.over.setAttribute("aria-label", `${what} Arrow keys go from cell to cell.`);
    app.note.textContent = [`Layout: ${scene.layout}`, model.get("note")].filter(Boolean).join(". ");
    app.time.refresh();
  };
  app.recolour = () => {
    app.by = app.model.get("colour_by");
    app.table = tableOf(app.scene, app.by);
    showLegend(app);
    app.describe();
    app.showChosen();
    app.draw();
  };
}

// The picture takes the width that there is, and is as fine as the screen.
function fitSize(app) {
  const width = Math.max(240, Math.floor(app.stage.clientWidth));
  const height = Math.round(Math.min(560, Math.max(360, width * 0.78)));
  const isAsFine = app.ratio === (window.devicePixelRatio || 1);
  if (width === app.width && height === app.height && isAsFine) return;
  Object.assign(app, { width, height, ratio: hiDpi(app.canvas, width, height) });
  hiDpi(app.over, width, height);
  if (app.fitted) app.fitView();
  app.draw();
}

// Paper is white, whatever the screen is: the picture is drawn anew at once, as no frame comes before
// printing.
function watchPaper(app) {
  const show = (isPaper) => () => {
    app.isPaper = isPaper;
    app.root.toggleAttribute("data-paper", isPaper);
    paintAll(app);
  };
  const [onPaper, onScreen] = [show(true), show(false)];
  window.addEventListener("beforeprint", onPaper);
  window.addEventListener("afterprint", onScreen);
  return () => {
    window.removeEventListener("beforeprint", onPaper);
    window.removeEventListener("afterprint", onScreen);
  };
}

// Redraws when the place or JupyterLab's theme changes; returns what ends that.
function watchPlace(app) {
  const place = new ResizeObserver(throttle(() => fitSize(app)));
  const theme = new MutationObserver(() => {
    app.draw();
    setTimeout(() => app.recolour(), 400); // the new style sheet comes later
  });
  const unwatchRatio = watchRatio(() => {
    fitSize(app);
    app.counted = null; // crops of cells are drawn anew, too
    app.showChosen();
  });
  place.observe(app.stage.parentElement);
  const attributeFilter = ["data-jp-theme-name", "data-jp-theme-light", "class"];
  theme.observe(document.body, { attributes: true, attributeFilter });
  return () => {
    unwatchRatio();
    place.disconnect();
    theme.disconnect();
  };
}

export function render({ model, el }) {
  const root = frontRoot(el, "Feature explorer");
  root.classList.add("dgcl-explorer");
  const app = makeApp(model, root);
  addDrawing(app);
  build(app);
  listenToPointer(app);
  listenToKeys(app);
  followModel(app);
  fitSize(app);
  showStep(app, null, app.now, 0);
  const unwatch = [watchPlace(app), watchPaper(app)];
  return () => {
    for (const end of unwatch) end();
    app.time.stop();
  };
}
