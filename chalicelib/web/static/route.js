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

function go({ show, labels, from, to, image }, method, state = null) {
  const said = new URLSearchParams();
  if (show !== "all") said.set("show", show);
  for (const label of labels) said.append("label", label);
  for (const [name, value] of Object.entries({ from, to, image })) if (value) said.set(name, value);
  if (method === "pushState") isLeaving = false; // which ends what was under way
  history[method](state, "", said.size ? `#${said}` : location.pathname + location.search);
  tell();
}

function tell() {
  for (const listener of listeners) listener(route());
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
