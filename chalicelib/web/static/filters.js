/** The bar that chooses what is shown: by status, by label. */

import { $, el, fill, icon, unseen } from "./dom.js";
import { count, number } from "./format.js";
import { goToList, route } from "./route.js";

/** How many labels are offered, the most frequent ones. */
const MOST_FACETS = 24;
const MOST_SUGGESTIONS = 200;

export class Filters {
  #collection;
  #offered = "";

  constructor(collection) {
    this.#collection = collection;
    $("#statuses").addEventListener("change", (event) => goToList({ show: event.target.value }));
    $("#search").addEventListener("submit", (event) => this.#search(event));
    // Choosing a suggestion is an input event whose value is one of them, and no key press.
    $("#label").addEventListener("input", (event) => {
      if (event.inputType === "insertReplacementText" || !event.inputType) this.#search(event);
    });
    $("#show-all").addEventListener("click", () => goToList({}));
    collection.addEventListener("change", () => this.#offer());
  }

  /** Labels mean completed images: the API takes a status or labels. */
  show({ show, labels }) {
    const chosen = labels.length ? "completed" : show;
    for (const radio of $("#statuses").elements) radio.checked = radio.value === chosen;
    this.#offer();
  }

  #search(event) {
    event.preventDefault();
    const label = $("#label").value.trim();
    $("#label").value = "";
    if (label) toggle(label, true);
  }

  #offer() {
    const found = frequencies(this.#collection.images);
    const { labels } = route();
    const facets = [
      ...labels.map((label) => [label, found.get(label.toLowerCase())?.[1] ?? 0, true]),
      ...mostFrequent(found, labels).map(([label, amount]) => [label, amount, false]),
    ];
    if (JSON.stringify(facets) === this.#offered) return;
    this.#offered = JSON.stringify(facets);
    const held = document.activeElement.closest?.("#facets button")?.dataset.label;
    fill($("#facets"), facets.map(facet));
    if (held)
      ([...$("#facets").children].find((one) => one.dataset.label === held) ?? $("#label")).focus();
    fill($("#known-labels"), suggestions(found));
  }
}

/** By label in lower case: how it is written, and how many of the images have it. */
function frequencies(images) {
  const found = new Map();
  for (const { name } of images.flatMap((image) => image.labels)) {
    const key = name.toLowerCase();
    found.set(key, [name, (found.get(key)?.[1] ?? 0) + 1]);
  }
  return found;
}

function mostFrequent(found, chosen) {
  const taken = new Set(chosen.map((label) => label.toLowerCase()));
  return [...found.entries()]
    .filter(([key]) => !taken.has(key))
    .map(([, entry]) => entry)
    .sort(([one, amount], [other, most]) => most - amount || one.localeCompare(other))
    .slice(0, MOST_FACETS);
}

const suggestions = (found) =>
  [...found.values()]
    .map(([name]) => name)
    .sort()
    .slice(0, MOST_SUGGESTIONS)
    .map((value) => el("option", { value }));

function facet([label, amount, isChosen]) {
  return el(
    "button",
    {
      type: "button",
      class: "chip",
      "aria-pressed": String(isChosen),
      "data-label": label,
      on: { click: () => toggle(label, !isChosen) },
    },
    label,
    isChosen
      ? icon("close")
      : el("span", { class: "amount", "aria-hidden": "true" }, number(amount)),
    !isChosen && unseen(`, ${count(amount, "image")}`),
  );
}

/** Ask for a label too, or no more. */
export function toggle(label, isWanted) {
  const others = route().labels.filter((one) => one.toLowerCase() !== label.toLowerCase());
  goToList({ labels: isWanted ? [...others, label] : others });
}
