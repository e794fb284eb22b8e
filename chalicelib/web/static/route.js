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

/** `{ show, labels, image }`. */
export function route() {
  const said = new URLSearchParams(location.hash.slice(1));
  const show = said.get("show");
  return {
    show: Object.hasOwn(SHOWN, show) ? show : "all",
    labels: [...new Set(said.getAll("label"))],
    image: said.get("image"),
  };
}

export function onRoute(listener) {
  listeners.push(listener);
}

/** Show a list of images: those in a status, or those with labels. */
export const goToList = ({ show = "all", labels = [] }) => go({ show, labels }, "pushState");

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

function go({ show, labels, image }, method, state = null) {
  const said = new URLSearchParams();
  if (show !== "all") said.set("show", show);
  for (const label of labels) said.append("label", label);
  if (image) said.set("image", image);
  history[method](state, "", said.size ? `#${said}` : location.pathname + location.search);
  tell();
}

function tell() {
  for (const listener of listeners) listener(route());
}

addEventListener("popstate", tell);
