/** The images that were there before and show the same. */

import * as api from "./api.js";
import { el } from "./dom.js";
import { count, fileName } from "./format.js";
import { picture, placeholder } from "./pictures.js";
import { goToImage } from "./route.js";

const THUMB_WIDTH = 44;

/** Each with the image that it leads to: of the list where it is there, or what the API says. */
export const found = (duplicates, collection) =>
  Promise.all(
    duplicates.map(async (duplicate) => {
      const id = duplicate.image_id;
      const image = collection.get(id) ?? (await api.show(id).catch((error) => error));
      return { ...duplicate, image };
    }),
  );

export const list = (duplicates) =>
  el("ul", { class: "duplicates", role: "list" }, duplicates.map(entry));

function entry({ image_id: id, distance, is_exact: isExact, image }) {
  const words = isExact ? "Same file as " : "Looks like ";
  const nearness = isExact ? null : el("span", { class: "amount" }, `(${count(distance, "bit")})`);
  if (image.status === 404)
    return el("li", {}, el("span", {}, words, "an image that has been deleted since ", nearness));
  const isKnown = !(image instanceof Error);
  const name = el("span", { class: "name" }, isKnown ? fileName(image) : id);
  return el(
    "li",
    {},
    el(
      "button",
      { type: "button", on: { click: () => goToImage(id) } },
      el(
        "span",
        { class: "thumb", "aria-hidden": "true" },
        isKnown && [placeholder(image), picture(image, THUMB_WIDTH)],
      ),
      el("span", {}, words, name, " ", nearness),
    ),
  );
}
