// Density by rank: where four fifths of the cells lie in the last tenth of the scale, "the sparsest 20 %"
// says what a bound of 0.91 does not.
import { choice } from "../front/choice.js";
import { explain, make } from "../front/elements.js";
import { LIMITS } from "./limits.js";
import { tell } from "./tell.js";

// From which to which percentile the density goes, and its name.
export const RANKS = [
  [0, 100, "all"],
  [0, 5, "sparsest 5 %"],
  [0, 20, "sparsest 20 %"],
  [0, 50, "sparser half"],
  [50, 100, "denser half"],
  [80, 100, "densest 20 %"]
];
const OWN = "as set above";

// The known densities of a step, from low to high; sorted when first asked for.
export function sortedDensity(points) {
  if (!points.sortedDensity) {
    points.sortedDensity = points.density.filter((value) => !Number.isNaN(value)).sort();
  }
  return points.sortedDensity;
}

// The range of density between two percentiles; null, no condition, for all.
export function rangeOfRanks(sorted, from, to) {
  if (!sorted.length || (from <= 0 && to >= 100)) return null;
  const last = sorted.length - 1;
  const [least, most] = LIMITS.density;
  const low = from > 0 ? sorted[Math.ceil((from / 100) * last)] : least;
  const high = to < 100 ? sorted[Math.floor((to / 100) * last)] : most;
  return [low, high];
}

// How many of the values come before the first that is large enough; they are sorted.
function countBefore(sorted, isLarge) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isLarge(sorted[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}

// The percentiles of the cells that a range lets in: those below it, and those not above it, in per cent.
export function ranksOf(sorted, range) {
  if (!sorted.length) return null;
  if (!range) return [0, 100];
  const share = (isLarge) => Math.round((100 * countBefore(sorted, isLarge)) / sorted.length);
  return [share((value) => value >= range[0]), share((value) => value > range[1])];
}

function keyOf(sorted, range) {
  const isSame = ([from, to]) => String(rangeOfRanks(sorted, from, to)) === String(range);
  return String(RANKS.findIndex(isSame));
}

export function rankControl(app) {
  const { model } = app;
  const options = [...RANKS.map(([, , name], i) => [String(i), name]), ["-1", OWN]];
  const control = choice("Density rank", options, "0", (key) => {
    const rank = RANKS[Number(key)];
    if (!rank) return;
    tell(model, "density_range", rangeOfRanks(sortedDensity(app.points()), rank[0], rank[1]));
    app.density.refresh();
    app.draw();
  });
  const text = make("span", "dgcl-value");
  control.querySelector(".dgcl-name").append(text);
  control.refresh = () => {
    const sorted = sortedDensity(app.points());
    const range = model.get("density_range");
    const ranks = ranksOf(sorted, range);
    control.set(keyOf(sorted, range));
    control.input.disabled = !ranks;
    text.textContent = ranks ? `${ranks[0]} to ${ranks[1]} %` : "";
  };
  model.on("change:density_range", () => control.refresh());
  return explain(control, "Shows a share of the cells: those of lowest, or of highest, density at this step");
}
