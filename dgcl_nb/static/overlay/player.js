// The slider of steps, and a button that plays them.
import { button, make } from "../front/elements.js";
import { slider } from "../front/slider.js";

const INTERVAL = 700; // milliseconds a step

export function player(state) {
  let timer = 0;
  const numSteps = () => state.maps.steps.length;
  const isLast = () => state.place().step + 1 >= numSteps();
  const format = (index) => {
    const step = state.maps.steps[index];
    return step === undefined ? "" : `${step} (${index + 1} of ${numSteps()})`;
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    play.textContent = "play";
  };
  const next = () => {
    if (!isLast()) state.say("step_index", state.place().step + 1);
    if (isLast()) stop();
  };
  const start = () => {
    if (isLast()) state.say("step_index", 0);
    play.textContent = "stop";
    timer = setInterval(next, INTERVAL);
  };
  const play = button("play", () => (timer ? stop() : start()));
  const ends = { min: 0, max: 1, step: 1, value: 0 };
  const steps = slider("step", { ...ends, format }, (index) => state.say("step_index", index));
  return { steps, stop, node: make("div", "dgcl-ov-steps", steps, play) };
}
