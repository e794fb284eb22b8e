/**
 * What is said above the gallery: the banner, that the API does not answer, which tries again by button
 * and by itself; and the notice, what the API said no with to something that was asked of it.
 */

import { $ } from "./dom.js";

const CHECK = "Check the connection, or whether it is running.";
const SILENCE = `${CHECK} It is asked again by itself.`;

const FIRST_MS = 2000;
const LONGEST_MS = 30_000;

export class Banner {
  #element = $("#banner");
  #retry;
  #wait = FIRST_MS;
  #timer = null;

  constructor(retry) {
    this.#retry = retry;
    $("#retry").addEventListener("click", () => this.#again());
  }

  /** Say what is wrong; where it may pass, try again after a while, a longer one each time. */
  show(error) {
    $("#banner-title").textContent = titleOf(error);
    $("#banner-text").textContent = error.status ? error.message : SILENCE;
    this.#element.hidden = false;
    clearTimeout(this.#timer);
    if (error.passes) this.#timer = setTimeout(() => this.#again(), this.#wait);
    this.#wait = Math.min(this.#wait * 2, LONGEST_MS);
  }

  hide() {
    clearTimeout(this.#timer);
    this.#wait = FIRST_MS;
    this.#element.hidden = true;
  }

  #again() {
    clearTimeout(this.#timer);
    this.#retry();
  }
}

/** Stays until it is dismissed or something else is asked for. */
export class Notice {
  #element = $("#notice");

  constructor() {
    $("#notice-dismiss").addEventListener("click", () => this.hide());
  }

  /** @param error what was thrown, or a text */
  show(error) {
    const isText = typeof error === "string";
    $("#notice-title").textContent = isText ? error : titleOf(error);
    $("#notice-text").textContent = isText ? "" : error.status ? error.message : CHECK;
    this.#element.hidden = false;
  }

  hide() {
    this.#element.hidden = true;
  }
}

function titleOf(error) {
  if (error.status === 0) return "The API does not answer.";
  if (error.status === 401 || error.status === 403) return "Not allowed.";
  if (error.status >= 400 && error.status < 500) return "That did not work.";
  return "The API has a problem.";
}
