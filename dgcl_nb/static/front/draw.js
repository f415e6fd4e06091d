// One drawing a frame, on a canvas as fine as the screen.

// Calls `fn` once for each frame of the screen, with the newest arguments.
export function throttle(fn) {
  let waiting = 0;
  let latest = [];
  return (...args) => {
    latest = args;
    if (waiting) return;
    waiting = requestAnimationFrame(() => {
      waiting = 0;
      fn(...latest);
    });
  };
}

// Gives a canvas of width x height CSS pixels as many points as the screen has there; returns how
// many that are for a CSS pixel.
export function hiDpi(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  if (canvas.width === w && canvas.height === h) return ratio; // setting them would clear it
  canvas.width = w;
  canvas.height = h;
  return ratio;
}

// Calls `fn` whenever the screen has become finer or coarser, as where a window is moved to another one;
// returns what ends that.
export function watchRatio(fn) {
  let asked = null;
  const listen = () => {
    asked = matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`); // holds for this one only
    asked.addEventListener("change", changed, { once: true });
  };
  const changed = () => {
    listen();
    fn();
  };
  listen();
  return () => asked.removeEventListener("change", changed);
}
