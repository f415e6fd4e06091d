// A figure that is wider than the page is made smaller as a whole, and leaves no gap below it.
import { narrowScale } from "../front/narrow.js";

// The style sheets take these on screens only; a figure that is smaller leaves a part of its height.
export function fitToScreen(figures) {
  for (const figure of figures) {
    const canvas = figure.querySelector(".canvas");
    const [place, width] = [figure.clientWidth, canvas.offsetWidth];
    const scale = narrowScale(place, width);
    figure.style.setProperty("--sideways", scale * width > place + 1 ? "auto" : "clip");
    canvas.style.setProperty("--screen-scale", scale);
    canvas.style.setProperty("--spare-height", `${(1 - scale) * canvas.offsetHeight}px`);
  }
}
