/** What is shown stands in the URL's fragment, so that it can be linked to and gone back from. */

import { IN_PROGRESS } from "./collection.js";

/** What can be chosen to be shown, and the statuses that it means. */
export const SHOWN = {
  all: [],
  completed: ["COMPLETED"],
  progress: IN_PROGRESS,
  failed: ["FAILED"],
};

const listeners = [];

/** `{ show, labels, from, to, image }`; the days are as in `2026-01-31`, in the reader's zone. */
export function route() {
  const said = new URLSearchParams(location.hash.slice(1));
  const show = said.get("show");
  return {
    show: Object.hasOwn(SHOWN, show) ? show : "all",
    labels: [...new Set(said.getAll("label"))],
    from: dayOf(said.get("from")),
    to: dayOf(said.get("to")),
    image: said.get("image"),
  };
}

/** What the collection is to ask for. */
export const filterOf = ({ show, labels, from, to }) => ({
  statuses: SHOWN[show],
  labels,
  ...(from && { from: new Date(`${from}T00:00:00`).toISOString() }),
  ...(to && { to: new Date(`${to}T23:59:59.999`).toISOString() }),
});

export function onRoute(listener) {
  listeners.push(listener);
}

/** Show a list of images; what is not said stays as it is. */
export const goToList = (change) => go({ ...route(), image: null, ...change }, "pushState");

/** Show an image over the list. Going on to another one leaves no trace in the history. */
export function goToImage(image) {
  const isOpen = Boolean(route().image);
  go(
    { ...route(), image },
    isOpen ? "replaceState" : "pushState",
    history.state ?? { isOver: !isOpen },
  );
}

/** Close the image: back to where it was opened from. */
export function leaveImage() {
  if (history.state?.isOver) history.back();
  else if (route().image) go({ ...route(), image: null }, "replaceState");
}

function go({ show, labels, from, to, image }, method, state = null) {
  const said = new URLSearchParams();
  if (show !== "all") said.set("show", show);
  for (const label of labels) said.append("label", label);
  for (const [name, value] of Object.entries({ from, to, image })) if (value) said.set(name, value);
  history[method](state, "", said.size ? `#${said}` : location.pathname + location.search);
  tell();
}

function tell() {
  for (const listener of listeners) listener(route());
}

function dayOf(text) {
  const isDay = /^\d{4}-\d\d-\d\d$/.test(text ?? "") && !Number.isNaN(Date.parse(text));
  return isDay ? text : null;
}

addEventListener("popstate", tell);
