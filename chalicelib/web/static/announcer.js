/**
 * Says to screen readers what happens, gathered, so that many uploads do not talk over all. Behind an
 * open dialog nothing is heard: each has a place of its own where things are said.
 */

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
  const top = [...document.querySelectorAll("dialog:modal")].at(-1) ?? null;
  const places = [...document.querySelectorAll(".live")];
  for (const place of places) place.textContent = "";
  const place = places.find((one) => one.closest("dialog") === top);
  place.textContent = [...waiting.slice(0, MOST), more > 0 && `and ${more} more.`]
    .filter(Boolean)
    .join(" ");
  waiting = [];
  timer = null;
}
