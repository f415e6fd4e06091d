// What the ends of a scale mean, for the layers whose numbers do not say it.

export const ENDS = {
  density: ["sparse", "dense"],
  confidence: ["unsure", "sure"],
  entropy: ["sure", "unsure"],
  shift: ["sparser", "denser"]
};

// What is said of a density that nothing could be compared with.
export const NO_DENSITY = "no density yet: the memory bank holds nothing to compare with";

// And where there is no memory bank, now or later.
export const NO_OWN_DENSITY = "no density is known, as no cell has others of a known class to compare with";

// The meaning of the words, beside the controls that use them.
export const MEANING = {
  density: "mean cosine to the nearest features of its class; 1: all alike",
  confidence: "the highest probability that the network gives to a class",
  entropy: "how evenly the network spreads its probability over the classes; 0: it is sure of one",
  shift: "the density in the second run less that in the first"
};

// The density of a network that has no memory bank.
export const OWN_CLASS = "mean cosine to the nearest other cells of its class; 1: all alike";
