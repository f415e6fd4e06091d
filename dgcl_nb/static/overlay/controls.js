// Image, step, opacity and threshold.
import { choice } from "../front/choice.js";
import { button, explain, make } from "../front/elements.js";
import { rangeSlider } from "../front/range.js";
import { slider } from "../front/slider.js";
import { hider } from "./compose.js";
import { player } from "./player.js";
import { shareOf, valueText, wholePercent } from "./shares.js";

function hidingText(state, from, to) {
  if (state.isOff()) return "nothing is hidden";
  const { maps } = state;
  const layer = state.get("threshold_of");
  const isHidden = hider(maps, state.place(), layer, ...state.bounds());
  const [low, high] = [from, to].map((value) => valueText(maps, layer, value));
  return `${low} to ${high}, ${wholePercent(shareOf(maps, state.place(), isHidden))} hidden`;
}

function imageControls(state) {
  const images = choice("image", [], "", (index) => state.say("image_index", Number(index)));
  const turn = (by) => () => {
    const count = state.maps.images.length;
    state.say("image_index", (state.place().image + by + count) % count);
  };
  const buttons = [button("previous", turn(-1)), button("next", turn(1))];
  return { images, node: make("div", "dgcl-ov-pick", images, ...buttons) };
}

export function controlsOf(state) {
  const { images, node } = imageControls(state);
  const film = player(state);
  const opacity = { min: 0, max: 1, step: 0.05, value: state.get("alpha") };
  const alpha = slider("alpha", opacity, (value) => state.say("alpha", value));
  const kinds = choice("hide pixels by", [], "", state.hideBy);
  const textOf = (from, to) => hidingText(state, from, to);
  const limits = { min: 0, max: 1, step: 0.01, low: 0, high: 1 }; // until the layer's are set
  const threshold = rangeSlider("threshold", { ...limits, textOf }, state.hideBeyond);
  explain(images, "Which of the images that the run shows");
  explain(film.steps, "At which training step the network is looked at");
  explain(alpha, "Opacity: how much of the layer's colour covers the image");
  explain(kinds, "By which value pixels are hidden, in both panels");
  explain(threshold, "Pixels whose value is not between the two are not painted; their image shows");
  const above = make("div", "dgcl-ov-bar", node, film.node);
  const below = make("div", "dgcl-ov-bar dgcl-ov-below", alpha, kinds, threshold);
  return { images, alpha, kinds, threshold, film, above, below };
}
