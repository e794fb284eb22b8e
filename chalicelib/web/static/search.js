/**
 * The search field: a combobox over the labels of the whole catalog, and a way to a file by its name
 * (ARIA Authoring Practices Guide, "Combobox With List Autocomplete").
 */

import * as api from "./api.js";
import { $, el, fill, icon, unseen } from "./dom.js";
import { count, number } from "./format.js";

const MOST = 8;

/** How long a pause in typing is taken for the end of it. */
const PAUSE_MS = 150;

/** What looks like a file is one: no label of Rekognition has an extension. */
const FILE_NAME = /^.+\.[a-z0-9]{2,5}$/i;

export class Search {
  #input = $("#search-text");
  #list = $("#suggestions");
  #actions;
  #options = [];
  #active = -1;
  #timer = null;
  #turn = 0;

  /** @param actions `label(name)` and `file(name)`, which tells whether there is one */
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
    const text = this.#input.value.trim();
    return { name: text, isFile: FILE_NAME.test(text) };
  }

  #choose({ name, isFile }) {
    this.#close();
    if (!name) return;
    if (isFile) this.#find(name);
    else {
      this.#input.value = "";
      this.#actions.label(name);
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
    const found = await api.labels({ prefix: typed.name, limit: MOST }).catch(() => null);
    if (turn !== this.#turn || document.activeElement !== this.#input) return undefined;
    this.#options = [...(found?.labels ?? []), ...(typed.isFile ? [typed] : [])];
    this.#active = -1;
    fill(
      this.#list,
      this.#options.map((option, index) => this.#option(option, index)),
    );
    return this.#show();
  }

  #option(option, index) {
    const { name, images, isFile } = option;
    const choose = (event) => {
      event.preventDefault(); // the focus stays where it is
      this.#choose(option);
    };
    return el(
      "li",
      { role: "option", id: `suggestion-${index}`, on: { pointerdown: choose } },
      icon(isFile ? "image" : "search"),
      isFile && unseen("Open the file "),
      el("span", { class: "name" }, name),
      isFile
        ? el("span", { class: "amount" }, "file")
        : el(
            "span",
            { class: "amount" },
            el("span", { "aria-hidden": "true" }, number(images)),
            unseen(`, ${count(images, "image")}`),
          ),
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
