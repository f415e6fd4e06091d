// What is wider than its place is made smaller as a whole, so that nothing of it is out of sight.

// Below this its words could not be read: from here on it scrolls instead.
const SMALLEST = 0.6;

// By what a figure of this width is to be multiplied where there is so much place.
export function narrowScale(place, width) {
  return Math.max(SMALLEST, Math.min(1, place / width));
}
