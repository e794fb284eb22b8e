/** The gallery: a justified grid of which only what is near the screen is in the page. */

import { isInProgress, isWithheld } from "./collection.js";
import { $, el, fill, icon, unseen, whenReleased } from "./dom.js";
import { STATUS_WORDS, count, fileName, labelLine, reasonOf } from "./format.js";
import { justify } from "./layout.js";
import { picture, placeholder, ratioOf, renditionFor } from "./pictures.js";

const GAP = 6;
const ROW_HEIGHT = 230;
const ROW_HEIGHT_NARROW = 150;
const NARROW = 640;

/** How many screens above and below what is seen are kept in the page. */
const MARGIN = 1.5;

const STEPS = { ArrowLeft: -1, ArrowRight: 1 };

export class Gallery {
  #grid = $("#grid");
  #collection;
  #open;
  #retry;
  #previewOf;
  #stopped = null;
  #visited = null;
  #images = [];
  #boxes = [];
  #tiles = new Map();
  #drawing = 0;

  constructor(collection, { open, retry, previewOf }) {
    this.#collection = collection;
    this.#open = open;
    this.#retry = retry;
    this.#previewOf = previewOf;
    collection.addEventListener("change", () => this.arrange());
    new ResizeObserver(() => this.arrange()).observe(this.#grid.parentElement);
    addEventListener("scroll", () => this.#drawSoon(), { passive: true });
    this.#grid.addEventListener("keydown", (event) => this.#walk(event));
    this.#grid.addEventListener("focusin", ({ target }) => {
      this.#visited = target.closest(".tile");
      this.#stopAt(this.#visited);
    });
  }

  /** Put the focus on an image's tile, wherever that is. Tells whether there is one. */
  focus(id) {
    const index = this.#images.findIndex((image) => image.image_id === id);
    if (index < 0) return false;
    this.#reveal(this.#boxes[index]);
    this.#draw();
    $("button", this.#tiles.get(id).element).focus();
    return true;
  }

  /** Lay all tiles out anew, as when one of them has got another shape. */
  arrange() {
    whenReleased(this.#grid, () => this.#arrange());
  }

  #arrange() {
    this.#images = this.#collection.images;
    const width = this.#grid.parentElement.clientWidth;
    const height = width < NARROW ? ROW_HEIGHT_NARROW : ROW_HEIGHT;
    const ratios = this.#images.map((image) => this.#ratio(image));
    const layout = justify(ratios, width, height, GAP);
    this.#boxes = layout.boxes;
    this.#grid.style.height = `${layout.height}px`;
    this.#draw();
  }

  #ratio(image) {
    if (image.status === "FAILED" && !isWithheld(image)) return 4 / 3;
    const ratio = ratioOf(image.width ? image : (this.#previewOf(image.image_id) ?? image));
    return isWithheld(image) ? Math.max(ratio, 1) : ratio; // there is something to read
  }

  #drawSoon() {
    if (!this.#drawing) this.#drawing = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#drawing = 0;
    const near = this.#near();
    const wanted = new Set(near.map(([image]) => image.image_id));
    for (const [id, { element }] of this.#tiles) if (!wanted.has(id)) this.#discard(id, element);
    let place = this.#grid.firstElementChild;
    for (const [image, box, index] of near) {
      const tile = this.#tile(image, box, index);
      if (tile === place) place = place.nextElementSibling;
      else this.#grid.insertBefore(tile, place);
    }
    if (!this.#visited?.isConnected) this.#stopAt(this.#firstSeen());
  }

  /**
   * The one tile where the Tab key stops, lest thousands stand in the way: the one that had the
   * focus last, or the first that is seen.
   */
  #stopAt(tile) {
    const reach = (element, tabIndex) => {
      for (const button of element?.children ?? []) button.tabIndex = tabIndex;
    };
    reach(this.#stopped, -1);
    reach(tile, 0);
    this.#stopped = tile;
  }

  #firstSeen() {
    const top = this.#grid.getBoundingClientRect().top;
    const image = this.#images[firstIndex(this.#boxes, (box) => box.top >= -top)];
    return this.#tiles.get(image?.image_id)?.element ?? this.#grid.firstElementChild;
  }

  /** The images in or near the part of the page that is seen, and the one where the focus was. */
  #near() {
    const top = this.#grid.getBoundingClientRect().top;
    const above = -top - innerHeight * MARGIN;
    const below = -top + innerHeight * (1 + MARGIN);
    const first = firstIndex(this.#boxes, (box) => box.top + box.height > above);
    const end = firstIndex(this.#boxes, (box) => box.top >= below);
    const indexes = Array.from({ length: end - first }, (_, step) => first + step);
    const held = this.#indexOf(this.#visited);
    if (held >= 0 && held < first) indexes.unshift(held);
    if (held >= end) indexes.push(held);
    return indexes.map((index) => [this.#images[index], this.#boxes[index], index]);
  }

  #indexOf(tile) {
    if (!tile) return -1;
    return this.#images.findIndex((image) => this.#tiles.get(image.image_id)?.element === tile);
  }

  #discard(id, element) {
    element.remove();
    this.#tiles.delete(id);
  }

  #tile(image, box, index) {
    const known = this.#tiles.get(image.image_id);
    const element = known?.element ?? el("li", { class: "tile" });
    const face = this.#face(image);
    if (known?.face !== face) {
      this.#tiles.set(image.image_id, { element, face });
      this.#paint(element, image, box);
    }
    element.setAttribute("aria-posinset", index + 1);
    element.setAttribute("aria-setsize", this.#collection.complete ? this.#images.length : -1);
    Object.assign(element.style, {
      width: `${box.width}px`,
      height: `${box.height}px`,
      transform: `translate(${box.left}px, ${box.top}px)`,
    });
    return element;
  }

  /** What a tile shows; when it changes, the tile is painted anew. */
  #face({ image_id: id, status, version_id: version, renditions, withheld_for, duplicates }) {
    const looks = [renditions[0]?.url, this.#previewOf(id)?.url, duplicates.length];
    return [status, version, ...looks, ...withheld_for].join();
  }

  /** Fill a tile; its button stays, and so does the focus on it. */
  #paint(element, image, box) {
    const button = element.firstElementChild ?? element.appendChild(opener());
    button.onclick = () => this.#open(image.image_id);
    element.className = `tile ${isWithheld(image) ? "withheld" : image.status.toLowerCase()}`;
    if (isWithheld(image)) fill(button, withheld(image));
    else if (image.status === "COMPLETED") fill(button, completed(image, box));
    else if (image.status === "FAILED") fill(button, failed(image));
    else
      fill(
        button,
        waiting(image, this.#previewOf(image.image_id) ?? renditionFor(image, box.width)),
      );
    const retry = $(".retry", element);
    if (retry?.contains(document.activeElement)) button.focus();
    retry?.remove();
    if (image.status === "FAILED" && !isWithheld(image))
      element.append(this.#retryOf(image, button.tabIndex));
  }

  #retryOf(image, tabindex) {
    const run = () => this.#retry(image);
    const attributes = { type: "button", class: "small retry", tabindex, on: { click: run } };
    return el("button", attributes, "Try again", unseen(` ${fileName(image)}`));
  }

  #walk(event) {
    const at = this.#indexOf(event.target.closest(".tile"));
    const to = at < 0 ? undefined : this.#towards(event.key, at);
    if (to === undefined) return;
    event.preventDefault();
    if (this.#boxes[to]) this.focus(this.#images[to].image_id);
  }

  #towards(key, at) {
    if (key in STEPS) return at + STEPS[key];
    if (key === "Home") return 0;
    if (key === "End") return this.#boxes.length - 1;
    if (key === "ArrowUp" || key === "ArrowDown") return this.#across(at, key === "ArrowDown");
    return undefined;
  }

  /** The tile of the next row, down or up, whose middle is nearest; -1 where there is none. */
  #across(at, down) {
    const here = this.#boxes[at];
    const rows = this.#boxes
      .map((box) => box.top)
      .filter((top) => (down ? top > here.top : top < here.top));
    const row = down ? Math.min(...rows) : Math.max(...rows);
    const off = (box) => Math.abs(box.left + box.width / 2 - here.left - here.width / 2);
    const candidates = [...this.#boxes.keys()].filter((index) => this.#boxes[index].top === row);
    return candidates.sort((a, b) => off(this.#boxes[a]) - off(this.#boxes[b]))[0] ?? -1;
  }

  #reveal(box) {
    const top = this.#grid.getBoundingClientRect().top + box.top;
    const header = $(".bar").getBoundingClientRect().bottom + GAP;
    if (top < header) scrollBy(0, top - header);
    else if (top + box.height > innerHeight) scrollBy(0, top + box.height - innerHeight + GAP);
  }
}

/** Of a list in order, the index of the first one of which something is true. */
function firstIndex(list, isTrue) {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isTrue(list[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}

const opener = () =>
  el("button", { type: "button", class: "face", "aria-haspopup": "dialog", tabindex: -1 });

function completed(image, box) {
  const labels = labelLine(image);
  return [
    placeholder(image),
    picture(image, box.width),
    el(
      "span",
      { class: "caption" },
      el("span", { class: "name" }, fileName(image)),
      labels && el("span", { class: "labels", "aria-hidden": "true" }, labels),
    ),
    image.duplicates.length > 0 && duplicate(image),
  ];
}

function duplicate({ duplicates }) {
  const words = duplicates[0].is_exact ? "Same file as another image" : "Looks like another image";
  return el("span", { class: "mark", title: words }, icon("copies"), unseen(`, ${words}`));
}

function withheld(image) {
  const { status, withheld_for } = image;
  const words = [
    withheld_for.join(", "),
    isInProgress(image) && STATUS_WORDS[status],
    status === "FAILED" && reasonOf(image),
  ];
  return [
    placeholder(image),
    el("span", { class: "mark" }, icon("hidden"), el("span", {}, "Quarantined")),
    el("span", { class: "name" }, fileName(image)),
    unseen("Withheld for "),
    el("span", { class: "reason" }, words.filter(Boolean).join(" · ")),
  ];
}

function failed(image) {
  return [
    icon("alert"),
    el("span", { class: "name" }, fileName(image)),
    unseen("Failed: "),
    el("span", { class: "reason" }, reasonOf(image)),
  ];
}

function waiting(image, preview) {
  return [
    preview && el("img", { class: "preview", src: preview.url, alt: "" }),
    el("span", { class: "spinner", "aria-hidden": "true" }),
    el("span", { class: "name" }, fileName(image)),
    el("span", { class: "reason" }, STATUS_WORDS[image.status]),
  ];
}

/** The words below the gallery: how much there is. */
export const summary = (collection) =>
  collection.complete
    ? count(collection.images.length, "image")
    : `${count(collection.images.length, "image")} so far`;
