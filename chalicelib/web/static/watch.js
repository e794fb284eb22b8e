/** Asks for the status of images until it is final, less and less often. */

import * as api from "./api.js";
import { isInProgress } from "./collection.js";

const FIRST_MS = 400;
const GROWTH = 1.5;
const LONGEST_MS = 10_000;
const AT_ONCE = 4;

/** Tells `status` with each status that it hears, and `gone` with the id of a deleted image. */
export class Watch extends EventTarget {
  #watched = new Map();
  #asking = 0;
  #timer = null;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => this.wake());
  }

  add(id) {
    if (this.#watched.has(id)) return;
    this.#watched.set(id, { due: Date.now() + FIRST_MS, wait: FIRST_MS, asked: false });
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
    if (next) this.#timer = setTimeout(() => this.#ask(next), next[1].due - Date.now());
  }

  #next() {
    const idle = [...this.#watched].filter(([, entry]) => !entry.asked);
    return idle.sort(([, one], [, other]) => one.due - other.due)[0];
  }

  async #ask([id, entry]) {
    entry.asked = true;
    this.#asking += 1;
    this.#schedule();
    const status = await api.status(id).catch((error) => this.#unheard(id, error));
    this.#asking -= 1;
    entry.asked = false;
    entry.wait = Math.min(entry.wait * GROWTH, LONGEST_MS);
    entry.due = Date.now() + entry.wait;
    if (status) this.#heard(id, status);
    this.#schedule();
  }

  #heard(id, status) {
    if (!isInProgress(status)) this.#watched.delete(id);
    this.dispatchEvent(new CustomEvent("status", { detail: status }));
  }

  #unheard(id, error) {
    if (error.status !== 404) return;
    this.#watched.delete(id);
    this.dispatchEvent(new CustomEvent("gone", { detail: id }));
  }
}
