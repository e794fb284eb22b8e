/** The images that a filter asks for, as far as they are loaded: newest first, each once. */

import * as api from "./api.js";
import { termOf, wordsOf } from "./format.js";

/** The first page comes soon, further ones are as large as the API gives them. */
const FIRST_PAGE = 60;
const PAGE = 100;
const FRESH_PAGE = 24;

/** Links to renditions work for an hour; until then a picture keeps its first one. */
const LINK_LASTS_MS = 45 * 60 * 1000;

/** What is listed a moment after it was recorded; a list may lag behind (DynamoDB's indexes). */
const LAG_MS = 5000;

export const IN_PROGRESS = ["QUEUED", "PROCESSING"];

export const isInProgress = (image) => IN_PROGRESS.includes(image.status);

/** Whether nobody is given its renditions, whatever its status is by now. */
export const isWithheld = (image) => image.withheld_for.length > 0;

/** Tells `change` whenever images come, change or go, and `state` when loading begins or ends. */
export class Collection extends EventTarget {
  filter = { statuses: [], labels: [], texts: [] };
  images = [];
  error = null;
  loading = false;
  #byId = new Map();
  #removed = new Map();
  #sources = [];
  #turn = 0;

  get complete() {
    return this.#sources.every((source) => source.done);
  }

  /**
   * Start over with another filter: statuses (none: all), labels that an image must all have,
   * words that must be written in it, how sure both must be, and the times (ISO 8601, UTC) from and
   * to which it was uploaded.
   */
  ask(filter) {
    this.filter = filter;
    this.#turn += 1;
    this.#sources = queriesOf(filter).map((query) => ({ query, cursor: null, done: false }));
    this.#byId.clear();
    this.loading = false;
    this.#changed();
    return this.more();
  }

  get(id) {
    return this.#byId.get(id);
  }

  /** The image `step` places after this one, or after the place it would have in the list. */
  neighbour(image, step) {
    const at = this.#placeOf(image);
    const isListed = this.images[at]?.image_id === image.image_id;
    return this.images[at + (step > 0 && !isListed ? step - 1 : step)];
  }

  /** Load the next images, unless that is under way or none is left. Pages may hold none. */
  async more() {
    if (this.loading || this.complete) return;
    const turn = this.#turn;
    const before = this.#byId.size;
    this.loading = true;
    this.error = null;
    this.#tell("state");
    try {
      while (!this.complete && this.#byId.size === before) {
        const open = this.#sources.filter((source) => !source.done);
        const pages = await Promise.all(open.map(nextPage));
        if (turn !== this.#turn) return;
        for (const [number, page] of pages.entries()) this.#append(open[number], page);
      }
    } catch (error) {
      if (turn !== this.#turn) return;
      this.error = error;
    }
    this.loading = false;
    this.#changed();
    this.#tell("state");
  }

  /** Bring in what is new, changed or gone among the newest. Tells whether anything was. */
  async refresh() {
    if (this.loading) return false;
    const turn = this.#turn;
    const queries = queriesOf(this.filter);
    const asked = queries.map((query) => api.list({ ...query, limit: FRESH_PAGE }));
    const pages = await Promise.all(asked).catch((error) => {
      if (turn === this.#turn) throw error;
    });
    if (turn !== this.#turn) return false;
    let isNews = pages.length === 1 && this.#dropMissing(pages[0]);
    for (const image of pages.flatMap((page) => page.images))
      if (this.#hasPlace(image)) isNews = this.#keep(image) || isNews;
    if (isNews) this.#changed();
    return isNews;
  }

  /** An image as it is now: shown where the filter and what is loaded so far have a place for it. */
  put(image) {
    if (!matches(image, this.filter)) this.#byId.delete(image.image_id);
    else if (this.#hasPlace(image)) this.#keep(image);
    this.#changed(image);
  }

  /** Take an image off the list, whatever a list that lags behind may say of it. */
  drop(id) {
    const image = this.#byId.get(id);
    if (!image) return;
    this.#removed.set(id, image.version_id);
    this.#byId.delete(id);
    this.#changed();
  }

  #append(source, page) {
    source.cursor = page.cursor;
    source.done = !page.cursor;
    for (const image of page.images) this.#keep(image);
  }

  /** Whether the list is loaded as far as where the image stands in it. */
  #hasPlace(image) {
    const isNear = this.complete || position(image) > position(this.images.at(-1));
    return isNear || this.#byId.has(image.image_id);
  }

  /** Tells whether that changed anything. */
  #keep(image) {
    const { image_id: id } = image;
    if (this.#removed.get(id) === image.version_id) return false;
    const known = this.#byId.get(id);
    this.#byId.set(id, withLinks(image, known));
    return known?.updated_at !== image.updated_at;
  }

  #dropMissing({ images, cursor }) {
    const listed = new Set(images.map((image) => image.image_id));
    const oldest = cursor ? position(images.at(-1)) : "";
    const settled = Date.now() - LAG_MS;
    const missing = this.images.filter(
      (image) => position(image) > oldest && image.seen_at < settled && !listed.has(image.image_id),
    );
    for (const image of missing) this.#byId.delete(image.image_id);
    return missing.length > 0;
  }

  /** The index of an image in the list, or of the one that it would stand before. */
  #placeOf(image) {
    let [low, high] = [0, this.images.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (position(this.images[middle]) > position(image)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** What was in order already is sorted in linear time (TimSort): 10,000 images in a few ms. */
  #changed(image = null) {
    this.images = [...this.#byId.values()].sort((one, other) =>
      position(one) < position(other) ? 1 : -1,
    );
    this.#tell("change", image);
  }

  #tell(event, detail) {
    this.dispatchEvent(new CustomEvent(event, { detail }));
  }
}

/** The API takes one status at a time. */
function queriesOf({ statuses, ...others }) {
  return statuses.length ? statuses.map((status) => ({ ...others, status })) : [others];
}

const nextPage = ({ query, cursor }) =>
  api.list({ ...query, cursor, limit: cursor ? PAGE : FIRST_PAGE });

/** Where the API puts an image in its lists. */
const position = (image) => (image ? `${image.uploaded_at}#${image.image_id}` : "");

/**
 * Whether an image is what a filter asks for. Only for one that comes from elsewhere: of those that
 * the API lists, it knows better.
 */
function matches(image, { statuses, labels, min_confidence: least = 0, texts, from, to }) {
  const names = namesIn(image, least);
  const lines = image.text.filter(({ confidence }) => confidence >= least);
  const words = new Set(lines.flatMap(({ text }) => wordsOf(text)));
  return (
    (!statuses.length || statuses.includes(image.status)) &&
    labels.every((label) => names.has(termOf(label))) &&
    texts.flatMap(wordsOf).every((word) => words.has(word)) &&
    (!from || image.uploaded_at >= from) &&
    (!to || image.uploaded_at <= to)
  );
}

/** What an image is found by as a label: labels and those above them, moderation labels, celebrities. */
function namesIn({ labels, moderation_labels, celebrities }, least) {
  const isSure = ({ confidence }) => confidence >= least;
  const named = [...labels, ...moderation_labels, ...celebrities].filter(isSure);
  const names = named.flatMap(({ name, parents = [] }) => [name, ...parents]);
  return new Set(names.map(termOf));
}

/** The image with the links it had, while they last: a new link would load the picture again. */
function withLinks(image, known) {
  const now = Date.now();
  const lasting = known && now - known.linked_at < LINK_LASTS_MS && sameRenditions(image, known);
  if (!lasting) return { ...image, linked_at: now, seen_at: known?.seen_at ?? now };
  return {
    ...image,
    renditions: known.renditions,
    linked_at: known.linked_at,
    seen_at: known.seen_at,
  };
}

const keys = (image) => image.renditions.map((rendition) => rendition.key).join();

const sameRenditions = (one, other) => keys(one) === keys(other);
