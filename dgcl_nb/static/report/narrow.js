// A figure that is wider than the page is made smaller as a whole, so that nothing of it is out of sight.

// Below this its words could not be read: from here on it scrolls instead.
const SMALLEST = 0.6;

// By what a figure of this width is to be multiplied where there is so much place.
export function narrowScale(place, width) {
  return Math.max(SMALLEST, Math.min(1, place / width));
}

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
