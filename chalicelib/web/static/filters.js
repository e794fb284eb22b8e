/** The bar that chooses what is shown: by status, by label, by words, by the day of upload. */

import { $, el, fill, icon, unseen, whenReleased } from "./dom.js";
import { count, day, number, quoted, termOf } from "./format.js";
import { SHOWN, goToList, route } from "./route.js";

/** How sure Rekognition can be asked to be of labels, in percent. */
const CONFIDENCES = [60, 70, 80, 90, 95, 99];

export class Filters {
  #overview;
  #offered = "";

  constructor(overview) {
    this.#overview = overview;
    $("#statuses").addEventListener("change", (event) => goToList({ show: event.target.value }));
    $("#show-all").addEventListener("click", showAll);
    overview.addEventListener("change", () =>
      whenReleased($(".bar-filters"), () => this.show(route())),
    );
    dates();
    $("#confidence").addEventListener("change", ({ target }) =>
      goToList({ confidence: Number(target.value) || null }),
    );
    $("#dates").addEventListener("focusout", () => setTimeout(() => this.show(route())));
  }

  /** Show what is chosen, and what there is to choose from. */
  show({ show, labels, confidence, texts, from, to }) {
    for (const radio of $("#statuses").elements) {
      radio.checked = radio.value === show;
      $(".amount", radio.parentElement).textContent = this.#amount(radio.value);
    }
    $("#quarantined").hidden = show !== "quarantined" && !this.#overview.images?.QUARANTINED;
    this.#showDates(from, to);
    $("#dates-text").textContent = from || to ? period(from, to) : "Dates";
    $("#dates-button").classList.toggle("chosen", Boolean(from || to));
    showConfidence(confidence, labels);
    this.#offer(labels, texts);
  }

  /** Not while somebody types there: half a date would be overwritten. */
  #showDates(from, to) {
    if ($("#dates").contains(document.activeElement)) return;
    $("#from").value = from ?? "";
    $("#to").value = to ?? "";
  }

  #amount(show) {
    const { images } = this.#overview;
    if (!images) return "";
    const statuses = SHOWN[show].length ? SHOWN[show] : Object.keys(images);
    return number(statuses.reduce((sum, status) => sum + (images[status] ?? 0), 0));
  }

  /** What is chosen comes first, whether or not it is among the most frequent labels. */
  #offer(chosen, texts) {
    const known = new Map(this.#overview.labels.map((one) => [termOf(one.name), one]));
    const taken = new Set(chosen.map(termOf));
    const facets = [
      ...chosen.map((name) => ({ ...known.get(termOf(name)), name, isChosen: true })),
      ...texts.map((name) => ({ name, isChosen: true, isText: true })),
      ...[...known].filter(([key]) => !taken.has(key)).map(([, facet]) => facet),
    ];
    if (JSON.stringify(facets) === this.#offered) return;
    this.#offered = JSON.stringify(facets);
    const held = document.activeElement.closest?.("#facets button")?.dataset.key;
    fill($("#facets"), facets.map(chip));
    if (held === undefined) return;
    const again = [...$("#facets").children].find((one) => one.dataset.key === held);
    (again ?? $("#search-text")).focus();
  }
}

function chip({ name, images, isChosen = false, isText = false }) {
  const press = isText ? toggleText : toggle;
  return el(
    "button",
    {
      type: "button",
      class: "chip",
      "aria-pressed": String(isChosen),
      "data-key": `${isText ? "text" : "label"} ${name}`,
      on: { click: () => press(name, !isChosen) },
    },
    isText && unseen("Words in the picture: "),
    isText ? quoted(name) : name,
    images !== undefined && [
      el("span", { class: "amount", "aria-hidden": "true" }, number(images)),
      unseen(`, ${count(images, "image")}`),
    ],
    isChosen && icon("close"),
  );
}

/** Ask for a label too, or no more. */
export function toggle(label, isWanted) {
  const others = route().labels.filter((one) => termOf(one) !== termOf(label));
  goToList({ labels: isWanted ? [...others, label] : others });
}

/** Ask for words that are written in the picture too, or no more. */
export function toggleText(text, isWanted) {
  const others = route().texts.filter((one) => one.toLowerCase() !== text.toLowerCase());
  goToList({ texts: isWanted ? [...others, text] : others });
}

const showAll = () => goToList({ show: "all", labels: [], texts: [], from: null, to: null });

/** Beside labels alone, for it is theirs. One that an address has is offered too. */
function showConfidence(confidence, labels) {
  const offered = new Set([...CONFIDENCES, ...(confidence ? [confidence] : [])]);
  fill(
    $("#confidence"),
    el("option", { value: "" }, "Any confidence"),
    [...offered].sort((one, other) => one - other).map((value) => atLeast(value)),
  );
  $("#confidence").value = confidence ?? "";
  $("#confidence").classList.toggle("chosen", Boolean(confidence));
  $("#confidence").hidden = labels.length === 0;
}

const atLeast = (value) => el("option", { value }, `≥ ${value} %`);

/** `since 31 Jan 2026`, `31 Jan 2026 – 2 Feb 2026` */
export function period(from, to) {
  if (from && to) return from === to ? day(from) : `${day(from)} – ${day(to)}`;
  return from ? `since ${day(from)}` : `until ${day(to)}`;
}

/**
 * The two dates are tucked away below a button. As one types, each digit changes them: until a date
 * is one, nothing is asked for, and all that is typed at a time is one step in the history.
 */
function dates() {
  const [button, drawer] = [$("#dates-button"), $("#dates")];
  const fields = [$("#from"), $("#to")];
  let method = "pushState";
  drawer.addEventListener("beforetoggle", () => {
    method = "pushState";
    const { left, bottom } = button.getBoundingClientRect();
    drawer.style.setProperty("--left", `${left}px`);
    drawer.style.setProperty("--top", `${bottom + 6}px`);
  });
  drawer.addEventListener("change", () => {
    if (!fields.every((field) => field.validity.valid)) return;
    const [from, to] = fields.map((field) => field.value || null);
    const isBackwards = from && to && from > to;
    goToList(isBackwards ? { from: to, to: from } : { from, to }, method);
    method = "replaceState";
  });
  $("#dates-clear").addEventListener("click", () => {
    drawer.hidePopover();
    for (const field of fields) field.value = "";
    goToList({ from: null, to: null });
  });
}
