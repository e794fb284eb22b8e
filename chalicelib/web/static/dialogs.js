/** The small dialogs: is it to be deleted, and which URL to fetch from. */

import { $ } from "./dom.js";
import { fileName } from "./format.js";

/** Ask before `remove(image)`. A failure is said right there; resolves to whether it is gone. */
export function confirmDeletion(image, remove) {
  const dialog = $("#confirm");
  const [yes, no, error] = [$("#confirm-yes"), $("#confirm-no"), $("#confirm-error")];
  const attempt = async () => {
    yes.disabled = true;
    try {
      await remove(image);
      dialog.close("gone");
    } catch (problem) {
      error.textContent = problem.message;
      error.hidden = false;
    }
    yes.disabled = false;
  };
  $("#confirm-name").textContent = fileName(image);
  error.hidden = true;
  dialog.returnValue = "";
  yes.onclick = attempt;
  no.onclick = () => dialog.close();
  dialog.showModal();
  no.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "gone"), { once: true });
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
