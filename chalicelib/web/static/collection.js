/** The images that a filter asks for, as far as they are loaded: newest first, each once. */

import * as api from "./api.js";

const PAGE = 60;
const FRESH_PAGE = 24;

/** Links to renditions work for an hour; until then a picture keeps its first one. */
const LINK_LASTS_MS = 45 * 60 * 1000;

/** What is listed a moment after it was recorded; a list may lag behind (DynamoDB's indexes). */
const LAG_MS = 5000;

export const IN_PROGRESS = ["QUEUED", "PROCESSING"];

export const isInProgress = (image) => IN_PROGRESS.includes(image.status);

/** Tells `change` whenever images come, change or go, and `state` when loading begins or ends. */
export class Collection extends EventTarget {
  filter = { statuses: [], labels: [] };
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

  /** Start over with another filter: statuses (none: all), or labels that an image must all have. */
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

  neighbour(id, step) {
    return this.images[this.images.findIndex((image) => image.image_id === id) + step];
  }

  /** Load the next page, unless one is under way or none is left. */
  async more() {
    if (this.loading || this.complete) return;
    const turn = this.#turn;
    this.loading = true;
    this.error = null;
    this.#tell("state");
    try {
      const open = this.#sources.filter((source) => !source.done);
      const pages = await Promise.all(open.map(nextPage));
      if (turn !== this.#turn) return;
      for (const [number, page] of pages.entries()) this.#append(open[number], page);
    } catch (error) {
      if (turn === this.#turn) this.error = error;
    }
    if (turn !== this.#turn) return;
    this.loading = false;
    this.#changed();
    this.#tell("state");
  }

  /** Bring in what is new, changed or gone among the newest. Tells whether anything was. */
  async refresh() {
    if (this.loading) return false;
    const turn = this.#turn;
    const queries = queriesOf(this.filter);
    const pages = await Promise.all(
      queries.map((query) => api.list({ ...query, limit: FRESH_PAGE })),
    );
    if (turn !== this.#turn) return false;
    const before = this.#state();
    if (pages.length === 1) this.#dropMissing(pages[0]);
    for (const image of pages.flatMap((page) => page.images)) this.#keep(image);
    if (this.#state() === before) return false;
    this.#changed();
    return true;
  }

  /** An image as it is now: shown where the filter and what is loaded so far have a place for it. */
  put(image) {
    const isNear = this.complete || position(image) > position(this.images.at(-1));
    if (isNear || this.#byId.has(image.image_id)) this.#keep(image);
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

  #keep(image) {
    if (this.#removed.get(image.image_id) === image.version_id) return;
    if (!matches(image, this.filter)) this.#byId.delete(image.image_id);
    else this.#byId.set(image.image_id, withLinks(image, this.#byId.get(image.image_id)));
  }

  #dropMissing({ images, cursor }) {
    const listed = new Set(images.map((image) => image.image_id));
    const oldest = cursor ? position(images.at(-1)) : "";
    const settled = Date.now() - LAG_MS;
    for (const image of this.images)
      if (position(image) > oldest && image.seen_at < settled && !listed.has(image.image_id))
        this.#byId.delete(image.image_id);
  }

  #state() {
    return JSON.stringify(
      [...this.#byId.values()].map((image) => [image.image_id, image.updated_at]).sort(),
    );
  }

  #changed(image = null) {
    const newestFirst = (one, other) => (position(one) < position(other) ? 1 : -1);
    this.images = [...this.#byId.values()].sort(newestFirst);
    this.#tell("change", image);
  }

  #tell(event, detail) {
    this.dispatchEvent(new CustomEvent(event, { detail }));
  }
}

/** The API takes one status at a time, or labels. */
function queriesOf({ statuses, labels }) {
  if (labels.length) return [{ labels }];
  return statuses.length ? statuses.map((status) => ({ status })) : [{}];
}

const nextPage = ({ query, cursor }) => api.list({ ...query, cursor, limit: PAGE });

/** Where the API puts an image in its lists. */
const position = (image) => (image ? `${image.uploaded_at}#${image.image_id}` : "");

function matches(image, { statuses, labels }) {
  if (!labels.length) return !statuses.length || statuses.includes(image.status);
  const names = new Set(image.labels.map((label) => label.name.toLowerCase()));
  return image.status === "COMPLETED" && labels.every((label) => names.has(label.toLowerCase()));
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
