/** Showing an image's picture: the rendition that fits, and its placeholder until it is there. */

import * as api from "./api.js";
import { el } from "./dom.js";
import { labelLine } from "./format.js";
import { drawPlaceholder } from "./thumbhash.js";

/** How far a rendition's proportions may be off by rounding alone. */
const ROUNDING = 0.03;

export const ratioOf = ({ width, height }) => (width && height ? width / height : 4 / 3);

/** The smallest uncropped rendition that is at least this wide in CSS pixels, or the widest. */
export function renditionFor(image, width) {
  const whole = image.renditions.filter((rendition) => isWhole(rendition, image));
  const byWidth = (whole.length ? whole : [...image.renditions]).sort((a, b) => a.width - b.width);
  const wanted = width * Math.min(devicePixelRatio, 2);
  return byWidth.find((rendition) => rendition.width >= wanted) ?? byWidth.at(-1);
}

/**
 * The part of the upright original that a rendition shows, as fractions of it; null where that is not
 * known, as of a crop made before anything was noted of it.
 */
export function windowOf(rendition, image) {
  const { window } = rendition;
  const ratio = (ratioOf(image) * window.width) / window.height;
  const isSo = Math.abs(ratioOf(rendition) / ratio - 1) < ROUNDING + 1 / rendition.height;
  return isSo ? window : null;
}

const isWhole = (rendition, image) => {
  const window = windowOf(rendition, image);
  return window?.width === 1 && window.height === 1;
};

/** The placeholder as a canvas over its dominant colour. */
export function placeholder(image) {
  const canvas = el("canvas", { class: "placeholder", "aria-hidden": "true", width: 1, height: 1 });
  const { placeholder: hash, colors = [] } = image.fingerprint ?? {};
  if (!(hash && drawPlaceholder(canvas, hash)) && colors.length)
    canvas.style.background = colors[0];
  return canvas;
}

/** An <img> of the image, `width` CSS pixels wide, that fades in over its placeholder. */
export function picture(image, width) {
  const source = renditionFor(image, width);
  if (!source) return null;
  const img = el("img", { alt: labelLine(image, 5) || "Picture", decoding: "async" });
  img.addEventListener("load", () => img.classList.add("loaded"));
  img.addEventListener("error", () => renew(img, image, width), { once: true });
  img.src = source.url;
  if (img.complete && img.naturalWidth) img.classList.add("loaded");
  return img;
}

/** Links expire: ask for the image again, once. */
async function renew(img, image, width) {
  const fresh = await api.show(image.image_id).catch(() => null);
  const source = fresh && renditionFor(fresh, width);
  if (source) img.src = source.url;
}
