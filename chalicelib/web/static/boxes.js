/** The boxes over a picture: where Rekognition sees what, which of them are drawn, which one is lit. */

import { $, el, unseen } from "./dom.js";

const CHOSEN_KEY = "image-pipeline.box-kinds";

/** What has boxes, where it stands in an image, and the hue that its first box has. */
const KINDS = { labels: 150, celebrities: 60, faces: 330, text: 240 };

/** Colours that differ well from one another however many there are: the golden angle apart. */
const GOLDEN_ANGLE = 137.5;

export class Boxes {
  #root;
  #chosen = recall();
  #before = ["labels"];
  #image = null;
  #places = [];

  /** @param root what the layers and switches are shown in */
  constructor(root) {
    this.#root = root;
  }

  /** From now on it is about this image. */
  of(image) {
    this.#image = image;
    this.#places = Object.keys(KINDS).flatMap((kind) => placesOf(kind, found(image)[kind]));
  }

  /**
   * What lies over a rendition that shows `window`, a part of the image. It says nothing to a screen
   * reader: the entries beside the picture do.
   */
  layer(window) {
    const boxes = this.#places.map((place) => boxOf(place, within(place.box, window)));
    const layer = el("div", { class: "boxes", "aria-hidden": "true" }, boxes);
    this.#draw(layer);
    return layer;
  }

  /** The dot of an entry, in the colour of its first box; null where it has none. */
  dot(kind, index) {
    const place = this.#places.find((one) => one.kind === kind && one.indexes.includes(index));
    return place ? el("span", { class: "dot", style: { "--hue": hueOf(place) } }) : null;
  }

  /** Listeners for an entry: while it is pointed at or has the focus, its boxes are lit. */
  lights(kind, index) {
    const on = () => this.#light(kind, index);
    const off = () => this.#light(null, null);
    return { pointerenter: on, pointerleave: off, focus: on, blur: off };
  }

  /** What draws the boxes of a kind or none of them; null where there are none. */
  switchOf(kind) {
    if (!this.#has(kind)) return null;
    const change = ({ target }) => this.#choose(kind, target.checked);
    const box = el("input", { type: "checkbox", "data-kind": kind, on: { change } });
    box.checked = this.#chosen.includes(kind);
    return el("label", { class: "switch" }, box, "Boxes", unseen(` of ${kind}`));
  }

  /** All of them away, and those that were drawn back again. */
  toggle() {
    const isAny = this.#chosen.some((kind) => this.#has(kind));
    if (isAny) this.#before = this.#chosen;
    this.#set(isAny ? [] : this.#before);
  }

  #has(kind) {
    return this.#places.some((place) => place.kind === kind);
  }

  #choose(kind, isWanted) {
    const others = this.#chosen.filter((one) => one !== kind);
    this.#set(isWanted ? [...others, kind] : others);
  }

  #set(kinds) {
    this.#chosen = kinds;
    remember(kinds);
    this.#draw($(".boxes", this.#root));
    for (const box of this.#root.querySelectorAll("input[data-kind]"))
      box.checked = kinds.includes(box.dataset.kind);
  }

  #draw(layer) {
    for (const box of layer?.children ?? [])
      box.classList.toggle("drawn", this.#chosen.includes(box.dataset.kind));
  }

  /** Make the boxes of one entry stand out; of none, show all that are drawn. */
  #light(kind, index) {
    const layer = $(".boxes", this.#root);
    layer?.classList.toggle("dimmed", kind !== null);
    for (const [at, box] of [...(layer?.children ?? [])].entries()) {
      const place = this.#places[at];
      box.classList.toggle("lit", place.kind === kind && place.indexes.includes(index));
    }
  }
}

const found = ({ labels, celebrities, faces, text }) => ({
  labels,
  celebrities: celebrities.map(({ name, box }) => ({ name, boxes: [box] })),
  faces: faces.map(({ box }, index) => ({ name: faceName(index), boxes: [box] })),
  text: text.map(({ text: name, box }) => ({ name, boxes: [box] })),
});

export const faceName = (index) => `Face ${index + 1}`;

/** One for each place: what Rekognition calls a person has the same box as a man. */
function placesOf(kind, entries) {
  const places = new Map();
  for (const [index, { name, boxes }] of entries.entries())
    for (const box of boxes) {
      const place = JSON.stringify(box);
      if (!places.has(place)) places.set(place, { kind, box, indexes: [], names: [] });
      places.get(place).indexes.push(index);
      places.get(place).names.push(name);
    }
  return [...places.values()];
}

/** The part of a box that lies in a window, as fractions of the window; null where none does. */
function within(box, window) {
  const [left, width] = overlap(box.left, box.width, window.left, window.width);
  const [top, height] = overlap(box.top, box.height, window.top, window.height);
  return width > 0 && height > 0 ? { left, top, width, height } : null;
}

function overlap(start, length, from, all) {
  const [first, last] = [start, start + length].map((at) => clamped((at - from) / all));
  return [first, last - first];
}

const clamped = (part) => Math.min(Math.max(part, 0), 1);

function boxOf({ kind, names, ...place }, part) {
  const sides = Object.entries(part ?? {}).map(([side, size]) => [side, `${100 * size}%`]);
  const style = { ...Object.fromEntries(sides), "--hue": hueOf({ kind, ...place }) };
  return el(
    "div",
    { class: "box", "data-kind": kind, hidden: !part, style },
    el("span", {}, names.join(", ")),
  );
}

const hueOf = ({ kind, indexes }) => Math.round((KINDS[kind] + indexes[0] * GOLDEN_ANGLE) % 360);

/** A browser may refuse to store anything; then nothing is remembered. */
function recall() {
  try {
    const kept = localStorage.getItem(CHOSEN_KEY) ?? "labels";
    return kept.split(" ").filter((kind) => kind in KINDS);
  } catch {
    return ["labels"];
  }
}

function remember(kinds) {
  try {
    localStorage.setItem(CHOSEN_KEY, kinds.join(" "));
  } catch {
    // not worth an error
  }
}
