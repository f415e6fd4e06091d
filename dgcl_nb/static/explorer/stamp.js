// A disc of pixels, and how it is blended in.

// The pixels of a disc (or of a ring of a width) around a place in a picture of a width: how far each is
// from that place in the buffer, and how much of it is covered (0 to 256), asked at 4 x 4 places in it.
export function makeStamp(radius, width, ring = 0) {
  const r = Math.ceil(radius);
  const hole = ring ? radius - ring : -1;
  const isInside = (x, y) => {
    const distance = Math.hypot(x, y);
    return distance <= radius && distance > hole;
  };
  const offset = [];
  const cover = [];
  for (let y = -r; y <= r; y++) {
    for (let x = -r; x <= r; x++) {
      let hits = 0;
      for (let j = 0; j < 16; j++) {
        if (isInside(x + (j % 4) / 4 - 0.375, y + (j >> 2) / 4 - 0.375)) hits++;
      }
      if (!hits) continue;
      offset.push(y * width + x);
      cover.push(hits * 16);
    }
  }
  return { r, offset: Int32Array.from(offset), cover: Int32Array.from(cover) };
}

// Four bytes as a screen's memory holds them on little-endian machines (all that browsers run on).
export function packed([red, green, blue]) {
  return 0xff000000 | (blue << 16) | (green << 8) | red;
}

// Blend a colour into a buffer of packed pixels; strength is 0 to 256. Red and blue go together: in one
// number neither can reach the other.
export function blend(buffer, place, { offset, cover }, [red, green, blue], strength) {
  const redBlue = (blue << 16) | red;
  for (let j = 0; j < offset.length; j++) {
    const at = place + offset[j];
    const share = (cover[j] * strength) >> 8;
    const rest = 256 - share;
    const under = buffer[at];
    const outer = (Math.imul(redBlue, share) + Math.imul(under & 0xff00ff, rest)) >>> 8;
    const inner = green * share + ((under >>> 8) & 255) * rest;
    buffer[at] = 0xff000000 | (outer & 0xff00ff) | (inner & 0xff00);
  }
}
