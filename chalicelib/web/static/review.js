/** Withheld images: why they are, and what a reviewer can do about them. */

import { isInProgress, isWithheld } from "./collection.js";
import { el, icon, section } from "./dom.js";
import { STATUS_WORDS, reasonOf } from "./format.js";
import { placeholder } from "./pictures.js";
import { moderation } from "./recognition.js";

/** What the API says no with, by its code, and what can be done then. */
const REFUSALS = {
  reviewers_only:
    "Only reviewers may do that. Ask whoever runs this pipeline to put you into the group " +
    "“reviewers”, then sign in anew.",
  image_quarantined: "The picture is withheld until a reviewer has released it.",
  not_quarantined: "It is not withheld any more: somebody was faster. This is how it is now.",
  version_replaced:
    "Another version was uploaded meanwhile, and is shown now. Look at that one before you decide.",
};

/** The same error, in words that a person can act on. */
export function inWords(error) {
  error.message = REFUSALS[error.code] ?? error.message;
  return error;
}

/** Whether nobody has decided yet. What is released stays withheld until it has been processed. */
export const awaitsVerdict = (image) => isWithheld(image) && !image.released;

/** What stands where the picture would: its placeholder, and a way to see it. */
export function veil(image, show) {
  const { status } = image;
  return el(
    "div",
    { class: "veiled" },
    placeholder(image),
    el(
      "div",
      { class: "verdict" },
      icon("hidden"),
      el("p", { class: "reason" }, "Quarantined"),
      el("p", {}, `Withheld for ${image.withheld_for.join(", ")}.`),
      isInProgress(image) && [
        el("span", { class: "spinner", "aria-hidden": "true" }),
        el("p", {}, STATUS_WORDS[status]),
      ],
      status === "FAILED" && el("p", {}, reasonOf(image)),
      awaitsVerdict(image) && showButton(show),
    ),
  );
}

function showButton(show) {
  const click = ({ currentTarget: button }) => onceAtATime(button, show);
  return el("button", { type: "button", on: { click } }, "Show the picture");
}

/** Why it is withheld, and the two verdicts. */
export function review(image, { search, release, remove }) {
  const letGo = ({ currentTarget: button }) => onceAtATime(button, () => release(image));
  return section("Why it is withheld", [
    moderation(image, search),
    awaitsVerdict(image)
      ? el(
          "p",
          { class: "hint" },
          "Released, it is processed again, and everybody who may use this page can see it. " +
            "Deleted, the original goes away with all that was made of it.",
        )
      : el("p", { class: "hint" }, "Released by a reviewer: it is shown once it is processed."),
    awaitsVerdict(image) &&
      el(
        "p",
        { class: "buttons verdicts" },
        el("button", { type: "button", class: "primary", on: { click: letGo } }, "Release"),
        el(
          "button",
          {
            type: "button",
            class: "quiet danger",
            "aria-haspopup": "dialog",
            on: { click: () => remove(image) },
          },
          icon("trash"),
          "Delete …",
        ),
      ),
  ]);
}

/** While it is asked for, the button is out of use. Disabled, it would keep the arrows to itself. */
async function onceAtATime(button, ask) {
  if (button.ariaDisabled) return;
  button.ariaDisabled = "true";
  await ask();
  button.ariaDisabled = null;
}
