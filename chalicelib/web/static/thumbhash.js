/**
 * ThumbHash placeholders (Evan Wallace, https://evanw.github.io/thumbhash/): a few cosines of the
 * picture's luminance, of two colour differences and of its opacity, four bits each.
 */

const SIDE = 32;

/** Draw the placeholder that these base64 bytes stand for; false when they stand for none. */
export function drawPlaceholder(canvas, base64) {
  const picture = decode(base64);
  if (!picture) return false;
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return true;
}

/** The placeholder as `ImageData`, or null for what is none. */
export function decode(base64) {
  try {
    return paint(parse(Uint8Array.from(atob(base64), (char) => char.charCodeAt(0))));
  } catch {
    return null; // a placeholder is never worth an error
  }
}

/** The channels that a hash describes: each a mean, its waves, and how many of them there are. */
function parse(hash) {
  const first = hash[0] | (hash[1] << 8) | (hash[2] << 16);
  const second = hash[3] | (hash[4] << 8);
  const hasAlpha = Boolean(first >> 23);
  const isLandscape = Boolean(second >> 15);
  const longer = hasAlpha ? 5 : 7;
  const shorter = Math.max(3, second & 7);
  const [across, down] = isLandscape ? [longer, shorter] : [shorter, longer];
  const nibble = nibbles(hash, hasAlpha ? 6 : 5);
  const channel = (mean, scale, nx, ny) => ({ mean, nx, ny, waves: waves(nibble, nx, ny, scale) });
  return {
    ratio: isLandscape ? longer / (second & 7) : (second & 7) / longer,
    luminance: channel((first & 63) / 63, ((first >> 18) & 31) / 31, across, down),
    yellow: channel(((first >> 6) & 63) / 31.5 - 1, (((second >> 3) & 63) / 63) * 1.25, 3, 3),
    red: channel(((first >> 12) & 63) / 31.5 - 1, (((second >> 9) & 63) / 63) * 1.25, 3, 3),
    alpha: hasAlpha ? channel((hash[5] & 15) / 15, (hash[5] >> 4) / 15, 5, 5) : null,
  };
}

function* nibbles(hash, start) {
  for (const byte of hash.subarray(start)) {
    yield byte & 15;
    yield byte >> 4;
  }
}

/** The factors of the low frequencies: those above the diagonal, without the mean. */
function waves(nibble, nx, ny, scale) {
  return frequencies(nx, ny).map(([x, y]) => {
    const { value = 7.5 } = nibble.next();
    return { x, y, factor: (value / 7.5 - 1) * scale };
  });
}

function frequencies(nx, ny) {
  const found = [];
  for (let y = 0; y < ny; y++)
    for (let x = y ? 0 : 1; x * ny < nx * (ny - y); x++) found.push([x, y]);
  return found;
}

function paint({ ratio, luminance, yellow, red, alpha }) {
  const width = Math.round(ratio > 1 ? SIDE : SIDE * ratio);
  const height = Math.round(ratio > 1 ? SIDE / ratio : SIDE);
  const picture = new ImageData(width, height);
  const [columns, rows] = [cosines(width), cosines(height)];
  for (let y = 0, at = 0; y < height; y++)
    for (let x = 0; x < width; x++, at += 4) {
      const level = (channel) => sum(channel, columns[x], rows[y]);
      const [l, p, q] = [level(luminance), level(yellow), level(red)];
      const blue = l - (2 / 3) * p;
      const redness = (3 * l - blue + q) / 2;
      const opacity = alpha ? level(alpha) : 1;
      picture.data.set(
        [redness, redness - q, blue, opacity].map((part) => 255 * part),
        at,
      );
    }
  return picture; // its array clamps to 0–255
}

/** For each place along a side, the seven lowest cosines there. */
function cosines(length) {
  const at = (place, frequency) => Math.cos((Math.PI / length) * (place + 0.5) * frequency);
  return Array.from({ length }, (_, place) => Array.from({ length: 7 }, (_, f) => at(place, f)));
}

function sum({ mean, waves }, column, row) {
  let level = mean;
  for (const { x, y, factor } of waves) level += 2 * factor * column[x] * row[y];
  return level;
}
