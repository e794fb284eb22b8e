/**
 * The search field: a combobox over the labels of the whole catalog, and a way to words that are written
 * in pictures and to a file by its name (ARIA Authoring Practices Guide, "Combobox With List Autocomplete").
 */

import * as api from "./api.js";
import { $, el, fill, icon, unseen } from "./dom.js";
import { count, number, quoted, wordsOf } from "./format.js";

const MOST = 8;

/** How long a pause in typing is taken for the end of it. */
const PAUSE_MS = 150;

/** What looks like a file is one: no label of Rekognition has an extension. */
const FILE_NAME = /^.+\.[a-z0-9]{2,5}$/i;

/** Words in quotation marks, or behind `text:`, are looked for in pictures. */
const WRITTEN = /^text:|^["“„].*["“”]$/i;
const MARKS = /^text:|["“”„]/gi;

const ICONS = { label: "search", text: "text", file: "image" };

export class Search {
  #input = $("#search-text");
  #list = $("#suggestions");
  #actions;
  #options = [];
  #active = -1;
  #timer = null;
  #turn = 0;

  /** @param actions `label(name)`, `text(words)`, and `file(name)`, which tells whether there is one */
  constructor(actions) {
    this.#actions = actions;
    $("#search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#choose(this.#options[this.#active] ?? this.#asTyped());
    });
    this.#input.addEventListener("input", () => this.#suggestSoon());
    this.#input.addEventListener("keydown", (event) => this.#key(event));
    this.#input.addEventListener("blur", () => this.#close());
    addEventListener("keydown", (event) => this.#slash(event));
  }

  #asTyped() {
    const typed = this.#input.value.trim();
    if (WRITTEN.test(typed)) return { name: typed.replace(MARKS, "").trim(), kind: "text" };
    return { name: typed, kind: FILE_NAME.test(typed) ? "file" : "label" };
  }

  #choose({ name, kind }) {
    this.#close();
    if (!name || (kind === "text" && !wordsOf(name).length)) return;
    if (kind === "file") this.#find(name);
    else {
      this.#input.value = "";
      this.#actions[kind](name);
    }
  }

  /** What was not found stays, to be mended. */
  async #find(name) {
    const isFound = await this.#actions.file(name);
    if (isFound && this.#asTyped().name === name) this.#input.value = "";
  }

  #suggestSoon() {
    clearTimeout(this.#timer);
    this.#turn += 1;
    this.#timer = setTimeout(() => this.#suggest(this.#turn), PAUSE_MS);
  }

  async #suggest(turn) {
    const typed = this.#asTyped();
    if (!typed.name) return this.#close();
    const found = typed.kind === "text" ? [] : await labelsWith(typed.name);
    if (turn !== this.#turn || document.activeElement !== this.#input) return undefined;
    this.#options = [
      ...found,
      ...(typed.kind === "file" ? [typed] : []),
      ...(wordsOf(typed.name).length ? [{ name: typed.name, kind: "text" }] : []),
    ];
    this.#active = -1;
    fill(
      this.#list,
      this.#options.map((option, index) => this.#option(option, index)),
    );
    return this.#show();
  }

  #option(option, index) {
    const { name, kind } = option;
    const choose = (event) => {
      event.preventDefault(); // the focus stays where it is
      this.#choose(option);
    };
    return el(
      "li",
      { role: "option", id: `suggestion-${index}`, on: { pointerdown: choose } },
      icon(ICONS[kind]),
      kind === "file" && unseen("Open the file "),
      kind === "text" && unseen("Words "),
      el("span", { class: "name" }, kind === "text" ? quoted(name) : name),
      el("span", { class: "amount" }, asideOf(option)),
    );
  }

  #key(event) {
    const run = {
      ArrowDown: () => this.#move(1),
      ArrowUp: () => this.#move(-1),
      Escape: () => (this.#options.length ? this.#close() : this.#input.blur()),
    }[event.key];
    if (!run || event.isComposing) return;
    event.preventDefault();
    run();
  }

  /** Through the options and, between the last and the first, what was typed. */
  #move(step) {
    const stops = this.#options.length + 1;
    this.#active = ((this.#active + 1 + step + stops) % stops) - 1;
    this.#show();
  }

  #close() {
    clearTimeout(this.#timer);
    this.#turn += 1;
    this.#options = [];
    this.#active = -1;
    this.#show();
  }

  #show() {
    const isOpen = this.#options.length > 0;
    this.#list.hidden = !isOpen;
    this.#input.setAttribute("aria-expanded", String(isOpen));
    const active = isOpen ? (this.#list.children[this.#active] ?? null) : null;
    for (const option of this.#list.children)
      option.setAttribute("aria-selected", String(option === active));
    if (active) this.#input.setAttribute("aria-activedescendant", active.id);
    else this.#input.removeAttribute("aria-activedescendant");
  }

  /** As on many pages, a slash leads to the search field. */
  #slash(event) {
    const isTyping = event.target.closest?.("input, textarea, dialog");
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#input.focus();
  }
}

async function labelsWith(prefix) {
  const found = await api.labels({ prefix, limit: MOST }).catch(() => null);
  return (found?.labels ?? []).map((label) => ({ ...label, kind: "label" }));
}

function asideOf({ kind, images }) {
  if (kind === "file") return "file";
  if (kind === "text") return "in pictures";
  return [
    el("span", { "aria-hidden": "true" }, number(images)),
    unseen(`, ${count(images, "image")}`),
  ];
}
