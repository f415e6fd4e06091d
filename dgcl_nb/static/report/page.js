// What a report does by itself: it unpacks plotly, draws, follows the system's theme, and unfolds for paper.
import { drawFigures, sayWhyNot } from "./figures.js";
import { fitToScreen } from "./narrow.js";
import { fitToPaper } from "./paper.js";
import { stepBar } from "./steps.js";
import { unpack } from "./unpack.js";

const WIDE = ".canvas, .view, .wide > table"; // what may be wider than paper

async function loadPlotly() {
  const code = document.createElement("script");
  code.textContent = await unpack(document.getElementById("plotly").textContent);
  document.head.append(code);
}

// `look.themes` are plotly templates named "light" and "dark"; on paper figures are always light.
async function showFigures(figures, { themes, tools }, dark, markStep) {
  await loadPlotly();
  const draw = (theme) => drawFigures(window.Plotly, figures, themes[theme], tools);
  const drawOnScreen = async () => {
    await draw(dark.matches ? "dark" : "light");
    markStep();
    fitToScreen(figures);
  };
  await drawOnScreen();
  dark.addEventListener("change", drawOnScreen);
  window.addEventListener("resize", () => fitToScreen(figures));
  window.addEventListener("beforeprint", () => draw("light"));
  window.addEventListener("afterprint", drawOnScreen);
}

function unfoldAll() {
  for (const part of document.querySelectorAll("details")) part.open = true;
}

function preparePaper() {
  unfoldAll();
  document.documentElement.dataset.paper = ""; // dark on white from here on, for whoever draws anew
  fitToPaper(document.querySelectorAll(WIDE));
}

function leavePaper(dark) {
  delete document.documentElement.dataset.paper;
  document.body.dataset.jpThemeName = dark.matches ? "dark" : "light"; // the fronts draw anew
}

// Sets data-ready on the page when all is drawn.
export async function startPage(look) {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const figures = [...document.querySelectorAll("figure.plot")];
  window.addEventListener("beforeprint", preparePaper);
  window.addEventListener("afterprint", () => leavePaper(dark));
  // the fronts draw anew when this attribute changes, as they do when JupyterLab changes its theme
  dark.addEventListener("change", () => {
    document.body.dataset.jpThemeName = dark.matches ? "dark" : "light";
  });
  const markStep = stepBar(document.querySelector("nav"), figures);
  try {
    if (figures.length) await showFigures(figures, look, dark, markStep);
    document.documentElement.dataset.ready = "";
  } catch (error) {
    sayWhyNot(figures, error);
    throw error;
  }
}
