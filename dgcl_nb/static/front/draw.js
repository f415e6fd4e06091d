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
  if (canvas.width === w && canvas.height === h) return ratio;
  canvas.width = w;
  canvas.height = h;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  return ratio;
}
