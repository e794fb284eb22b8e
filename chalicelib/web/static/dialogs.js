/** The small dialogs: is it to be deleted, and which URL to fetch from. */

import { $ } from "./dom.js";
import { fileName } from "./format.js";

/** Ends what was asked last: a browser tells that its dialog was closed a moment after it was. */
let end = () => {};

/** Ask before `remove(image)`. A failure is said right there; resolves to whether it is gone. */
export function confirmDeletion(image, remove) {
  const dialog = $("#confirm");
  const [yes, no, error] = [$("#confirm-yes"), $("#confirm-no"), $("#confirm-error")];
  const opening = new AbortController();
  const { signal } = opening;
  let isBusy = false;
  let isGone = false;
  end();
  const busy = (isSo) => {
    isBusy = isSo;
    yes.disabled = no.disabled = isSo;
    dialog.closedBy = isSo ? "none" : "closerequest";
  };
  const attempt = async () => {
    busy(true);
    error.hidden = true;
    const problem = await remove(image).then(
      () => null,
      (reason) => reason,
    );
    if (signal.aborted) return !problem; // by now the dialog may ask about another image
    busy(false);
    if (problem) {
      error.textContent = problem.message;
      error.hidden = false;
      yes.focus();
    } else dialog.close();
    return !problem;
  };
  const stay = (event) => isBusy && event.preventDefault();
  $("#confirm-name").textContent = fileName(image);
  error.hidden = true;
  busy(false);
  yes.addEventListener("click", () => (isGone = attempt()), { signal });
  no.addEventListener("click", () => dialog.close(), { signal });
  dialog.addEventListener("cancel", stay, { signal });
  dialog.showModal();
  no.focus();
  return new Promise((resolve) => {
    end = () => {
      opening.abort();
      resolve(isGone);
    };
    dialog.addEventListener("close", () => dialog.open || end(), { signal });
  });
}

/** Wires the dialog that asks for a URL; `fetchFrom({ url, name })` gets what was said. */
export function urlDialog(fetchFrom) {
  const dialog = $("#url-dialog");
  const form = $("#url-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    fetchFrom({ url: $("#url").value.trim(), name: $("#url-name").value.trim() });
    dialog.close();
  });
  $("#url-cancel").addEventListener("click", () => dialog.close());
  return () => {
    form.reset();
    dialog.showModal();
  };
}

/** A click beside a dialog closes it, as people expect. */
export function closeOnBackdrop(dialog, close) {
  dialog.addEventListener("pointerdown", (event) => {
    if (event.target === dialog && isBeside(dialog, event)) close();
  });
}

function isBeside(dialog, { clientX, clientY }) {
  const box = dialog.getBoundingClientRect();
  return clientX < box.left || clientX > box.right || clientY < box.top || clientY > box.bottom;
}
