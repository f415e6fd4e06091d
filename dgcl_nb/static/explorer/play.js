// The slider of training steps, and a button that plays them.
import { button, make } from "../front/elements.js";
import { slider } from "../front/slider.js";
import { tell } from "./tell.js";

const INTERVAL = 1000; // milliseconds a step

function playButton(app) {
  const { model } = app;
  let timer = 0;
  const isLast = () => app.now + 1 >= app.scene.steps.length;
  const show = (isPlaying) => {
    play.textContent = isPlaying ? "❚❚ Pause" : "▶ Play";
    play.setAttribute("aria-pressed", String(isPlaying));
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    show(false);
  };
  const next = () => {
    if (isLast()) stop();
    else tell(model, "step_index", app.now + 1);
  };
  const start = () => {
    show(true);
    timer = setInterval(next, INTERVAL);
    if (isLast()) tell(model, "step_index", 0);
    else next();
  };
  const play = button("▶ Play", () => (timer ? stop() : start()));
  play.setAttribute("aria-pressed", "false");
  play.stop = stop;
  return play;
}

// A step as the other views write it, or the name of a run; and which of how many it is.
export function stepText(steps, index) {
  if (!steps[index]) return "";
  const { step, name } = steps[index];
  return `${name || step} (${index + 1} of ${steps.length})`;
}

export function timeBar(app) {
  const { model } = app;
  const bar = make("div", "dgcl-time");
  const play = playButton(app);
  const last = () => app.scene.steps.length - 1;
  const format = (index) => stepText(app.scene.steps, index);
  const choose = (index) => {
    play.stop();
    tell(model, "step_index", index);
  };
  const label = app.scene.compared ? "Run" : "Training step";
  const field = slider(label, { min: 0, max: last(), step: 1, value: app.now, format }, choose);
  bar.refresh = () => {
    bar.hidden = last() < 1;
    bar.style.display = bar.hidden ? "none" : "";
    field.limits(0, last());
    field.set(app.now);
  };
  bar.stop = play.stop;
  bar.append(play, field);
  return bar;
}
