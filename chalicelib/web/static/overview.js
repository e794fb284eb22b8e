/** What the whole catalog holds: its most frequent labels, and how many images are in each status. */

import * as api from "./api.js";

/** How many labels are offered, the most frequent ones. */
const MOST_LABELS = 24;

/** Changes come in bursts, as with an upload of many files: they are gathered that long. */
const GATHER_MS = 1500;

/** Tells `change` when it has been asked for anew. */
export class Overview extends EventTarget {
  labels = [];
  images = null;
  #timer = null;

  /** Something has changed: ask soon. */
  outdate() {
    this.#timer ??= setTimeout(() => this.refresh(), GATHER_MS);
  }

  async refresh() {
    clearTimeout(this.#timer);
    this.#timer = null;
    const [labels, stats] = await Promise.allSettled([
      api.labels({ limit: MOST_LABELS }),
      api.stats(),
    ]);
    // Without an answer what was known stays: the list of images says that the API is away.
    this.labels = labels.value?.labels ?? this.labels;
    this.images = stats.value?.images ?? this.images;
    this.dispatchEvent(new Event("change"));
  }
}
