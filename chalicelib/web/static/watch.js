/** Asks for the status of images until it is final, less and less often. */

import * as api from "./api.js";
import { isInProgress } from "./collection.js";

const FIRST_MS = 400;
const GROWTH = 1.5;
const LONGEST_MS = 10_000;
const AT_ONCE = 4;

/** However many images are watched, the API is not asked more often than this. */
const APART_MS = 100;

/** What S3 has stored, its event registers within a second or so; it is delivered at least once. */
const REGISTERED_MS = 90_000;

/**
 * Tells `status` with each new status that it hears, `gone` with the id of a deleted image, and `lost`
 * with the id of one that was awaited and never came.
 */
export class Watch extends EventTarget {
  #watched = new Map();
  #asking = 0;
  #timer = null;
  #lastAsked = 0;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => this.wake());
  }

  /** @param isAwaited whether the API may not know the image yet */
  add(id, { isAwaited = false } = {}) {
    if (this.#watched.has(id)) return;
    const now = Date.now();
    this.#watched.set(id, {
      due: now + FIRST_MS,
      wait: FIRST_MS,
      awaitedUntil: isAwaited ? now + REGISTERED_MS : null,
      heard: null,
      asked: false,
    });
    this.#schedule();
  }

  /** Ask for all of them soon again, as after a while without network. */
  wake() {
    for (const entry of this.#watched.values())
      Object.assign(entry, { due: Date.now(), wait: FIRST_MS });
    this.#schedule();
  }

  #schedule() {
    clearTimeout(this.#timer);
    if (document.hidden || this.#asking >= AT_ONCE) return;
    const next = this.#next();
    if (!next) return;
    const at = Math.max(next[1].due, this.#lastAsked + APART_MS);
    this.#timer = setTimeout(() => this.#ask(next), at - Date.now());
  }

  /** The idle one that is due first. */
  #next() {
    let first = null;
    for (const one of this.#watched)
      if (!one[1].asked && !(first && first[1].due <= one[1].due)) first = one;
    return first;
  }

  async #ask([id, entry]) {
    entry.asked = true;
    this.#asking += 1;
    this.#lastAsked = Date.now();
    this.#schedule();
    const status = await api.status(id).catch((error) => this.#unheard(id, entry, error));
    this.#asking -= 1;
    entry.asked = false;
    entry.wait = Math.min(entry.wait * GROWTH, LONGEST_MS);
    entry.due = Date.now() + entry.wait;
    if (status) this.#heard(id, entry, status);
    this.#schedule();
  }

  #heard(id, entry, status) {
    const isNews = entry.heard !== status.status;
    Object.assign(entry, { awaitedUntil: null, heard: status.status });
    if (!isInProgress(status)) this.#watched.delete(id);
    if (isNews) this.#tell("status", status);
  }

  #unheard(id, { awaitedUntil }, error) {
    if (error.status !== 404 || Date.now() < awaitedUntil) return;
    this.#watched.delete(id);
    this.#tell(awaitedUntil ? "lost" : "gone", id);
  }

  #tell(event, detail) {
    this.dispatchEvent(new CustomEvent(event, { detail }));
  }
}
