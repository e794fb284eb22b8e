/** What is shown stands in the URL's fragment, so that it can be linked to and gone back from. */

import { IN_PROGRESS } from "./collection.js";

/** What can be chosen to be shown, and the statuses that it means. */
export const SHOWN = {
  all: [],
  completed: ["COMPLETED"],
  progress: IN_PROGRESS,
  quarantined: ["QUARANTINED"],
  failed: ["FAILED"],
};

const listeners = [];

/**
 * `{ show, labels, confidence, texts, from, to, image }`: the confidence in percent, that of labels;
 * the days as in `2026-01-31`, in the reader's zone.
 */
export function route() {
  const said = new URLSearchParams(location.hash.slice(1));
  const show = said.get("show");
  return {
    show: Object.hasOwn(SHOWN, show) ? show : "all",
    labels: [...new Set(said.getAll("label"))],
    confidence: percentOf(said.get("min_confidence")),
    texts: [...new Set(said.getAll("text"))],
    from: dayOf(said.get("from")),
    to: dayOf(said.get("to")),
    image: said.get("image"),
  };
}

/** What the collection is to ask for. */
export const filterOf = ({ show, labels, confidence, texts, from, to }) => ({
  statuses: SHOWN[show],
  labels,
  ...(labels.length && confidence && { min_confidence: confidence }),
  texts,
  ...(from && { from: new Date(`${from}T00:00:00`).toISOString() }),
  ...(to && { to: new Date(`${to}T23:59:59.999`).toISOString() }),
});

export function onRoute(listener) {
  listeners.push(listener);
}

/** Show a list of images; what is not said stays as it is. */
export const goToList = (change, method = "pushState") =>
  go({ ...route(), image: null, ...change }, method);

/** Show an image over the list. Going on to another one leaves no trace in the history. */
export function goToImage(image) {
  const isOpen = Boolean(route().image);
  go(
    { ...route(), image },
    isOpen ? "replaceState" : "pushState",
    history.state ?? { isOver: !isOpen },
  );
}

let isLeaving = false;

/** Close the image: back to where it was opened from, and not further, however often it is asked. */
export function leaveImage() {
  if (isLeaving) return;
  isLeaving = Boolean(history.state?.isOver);
  if (isLeaving) history.back();
  else if (route().image) go({ ...route(), image: null }, "replaceState");
}

function go({ show, labels, confidence, texts, from, to, image }, method, state = null) {
  const said = new URLSearchParams();
  if (show !== "all") said.set("show", show);
  for (const label of labels) said.append("label", label);
  if (labels.length && confidence) said.set("min_confidence", confidence);
  for (const text of texts) said.append("text", text);
  for (const [name, value] of Object.entries({ from, to, image })) if (value) said.set(name, value);
  if (method === "pushState") isLeaving = false; // which ends what was under way
  history[method](state, "", said.size ? `#${said}` : location.pathname + location.search);
  tell();
}

function tell() {
  for (const listener of listeners) listener(route());
}

/** Percent, more than none; null for anything else. */
function percentOf(text) {
  const percent = Number(text);
  return percent > 0 && percent <= 100 ? percent : null;
}

/** The day, if there is such a one: JavaScript takes February 31 for March 3. */
function dayOf(text) {
  if (!/^2\d{3}-\d\d-\d\d$/.test(text ?? "")) return null;
  const day = new Date(`${text}T00:00Z`);
  return !Number.isNaN(day.valueOf()) && day.toISOString().startsWith(text) ? text : null;
}

addEventListener("popstate", () => {
  isLeaving = false;
  tell();
});
