// Grey levels and colours of a slice with a map over it. Red speaks for Stroke, blue against it, in maps and bars alike.

/**
 * @typedef {object} Picture
 * @property {number} width
 * @property {number} height
 * @property {Int16Array|Float32Array|Uint8Array} values what was measured, row by row
 */

/** The diverging table "RdBu_r" of 256 RGB triples; the page gives it with `setTable`. */
let table = new Uint8Array(768);

/** Take the table of colours, 256 RGB triples from blue to red. */
export function setTable(bytes) {
  table = bytes;
}

/** The colour of a share of the strongest value, -1 to 1. White lies at 0, so colours begin half way out. */
export function colourOf(share) {
  const place = 0.5 + Math.sign(share) * (0.25 + 0.25 * Math.min(1, Math.abs(share)));
  const start = 3 * Math.min(255, Math.floor(place * 256));
  return [table[start], table[start + 1], table[start + 2]];
}

/** How much of the slice a share hides, 0 to `opacity`: weak regions stay visible. As `Explanation.overlay`. */
export function coverOf(share, opacity) {
  return opacity * Math.abs(share) ** 0.7;
}

/** Grey levels of a picture in a window: `low` is black and `high` is white. */
export function toGrey(picture, low, high) {
  const { values } = picture;
  const grey = new Uint8ClampedArray(values.length);
  const factor = 255 / Math.max(high - low, 1e-12);
  for (let i = 0; i < values.length; i++) grey[i] = (values[i] - low) * factor;
  return grey;
}

/**
 * Paint a slice and one map over it.
 * @param {Uint8ClampedArray} grey
 * @param {?{data: Float32Array|Int8Array|Uint8Array, strongest: number}} map `strongest` is the value of full colour
 * @param {number} sign 1 where positive values speak for Stroke, -1 where they speak against it
 */
export function paint(width, height, grey, map, sign, opacity) {
  const image = new ImageData(width, height);
  const pixels = image.data;
  const colours = new Float32Array(256 * 4);
  for (let i = 0; i < 256; i++) {
    const share = (i - 128) / 127;
    colours.set([...colourOf(share), coverOf(share, opacity)], 4 * i);
  }
  const scale = map && map.strongest > 0 ? (127 * sign) / map.strongest : 0;
  for (let i = 0, k = 0; i < grey.length; i++, k += 4) {
    const level = scale ? Math.max(-127, Math.min(127, Math.round(map.data[i] * scale))) : 0;
    if (level === 0) {
      pixels[k] = pixels[k + 1] = pixels[k + 2] = grey[i];
    } else {
      const c = 4 * (level + 128);
      const cover = colours[c + 3];
      pixels[k] = grey[i] * (1 - cover) + colours[c] * cover;
      pixels[k + 1] = grey[i] * (1 - cover) + colours[c + 1] * cover;
      pixels[k + 2] = grey[i] * (1 - cover) + colours[c + 2] * cover;
    }
    pixels[k + 3] = 255;
  }
  return image;
}

/** The edges between the pixels inside and outside a mask, as one path in pixels of the picture. */
export function traceOutline(mask, width, height) {
  const path = new Path2D();
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && mask[y * width + x] > 0;
  const line = (x0, y0, x1, y1) => {
    path.moveTo(x0, y0);
    path.lineTo(x1, y1);
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!inside(x, y)) continue;
      if (!inside(x - 1, y)) line(x, y, x, y + 1);
      if (!inside(x + 1, y)) line(x + 1, y, x + 1, y + 1);
      if (!inside(x, y - 1)) line(x, y, x + 1, y);
      if (!inside(x, y + 1)) line(x, y + 1, x + 1, y + 1);
    }
  }
  return path;
}
