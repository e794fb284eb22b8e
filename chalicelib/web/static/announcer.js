/** Says to screen readers what happens, gathered, so that many uploads do not talk over all. */

import { $ } from "./dom.js";

const GATHER_MS = 1200;
const MOST = 3;

let waiting = [];
let timer = null;

export function announce(text) {
  waiting.push(text);
  timer ??= setTimeout(speak, GATHER_MS);
}

function speak() {
  const more = waiting.length - MOST;
  $("#live").textContent = [...waiting.slice(0, MOST), more > 0 && `and ${more} more.`]
    .filter(Boolean)
    .join(" ");
  waiting = [];
  timer = null;
}
