/** What Rekognition says of an image, in words: labels, celebrities, faces, written text. */

import { faceName } from "./boxes.js";
import { el, icon, section, unseen } from "./dom.js";
import { percent, wordsOf } from "./format.js";

/** Of attributes that Rekognition has a longer word for. */
const SHORTER = new Map([
  ["age_range", "age"],
  ["emotions", ""],
  ["gender", ""],
]);

/** What a face that lacks something has instead. */
const OPPOSITES = new Map([
  ["eyes_open", "eyes closed"],
  ["mouth_open", "mouth closed"],
  ["face_occluded", "nothing covers it"],
]);

/** A name that is public by its look: no address in numbers, no port, nobody's name before it. */
const HOST = /^([a-z0-9-]+\.)+[a-z][a-z0-9-]+$/;

/** The sections of what was found; of what was not, there is none. */
export function recognized(image, boxes, { search, searchText }) {
  const part = (kind, title, entries) =>
    image[kind].length > 0 && section(title, entries(image[kind], boxes), boxes.switchOf(kind));
  return [
    part("labels", "Labels", (labels) => labelChips(labels, boxes, search)),
    part("celebrities", "Celebrities", (found) => celebrities(found, boxes, search)),
    part("faces", "Faces", (found) => faces(found, boxes)),
    part("text", "Text", (lines) => textLines(lines, boxes, searchText)),
  ];
}

/** What some may not want to see; the reasons for which the image is withheld are marked. */
export const moderation = ({ moderation_labels: labels, withheld_for }, search) =>
  chips(
    labels.map(({ name, confidence, parent }) => {
      const isReason = withheld_for.includes(name);
      return chip({
        class: `chip label${isReason ? " held" : ""}`,
        click: () => search(name),
        confidence,
        words: [
          isReason && icon("hidden"),
          unseen("Show images with "),
          name,
          parent && el("span", { class: "amount" }, `in ${parent}`),
          isReason && unseen(", a reason to withhold it, "),
        ],
      });
    }),
  );

const labelChips = (labels, boxes, search) =>
  chips(
    labels.map(({ name, confidence, parents }, index) =>
      chip({
        title: parents.length ? `${name} · ${parents.join(" · ")}` : name,
        click: () => search(name),
        on: boxes.lights("labels", index),
        confidence,
        words: [boxes.dot("labels", index), unseen("Show images with "), name],
      }),
    ),
  );

const celebrities = (found, boxes, search) =>
  el(
    "ul",
    { class: "people", role: "list" },
    found.map(({ name, confidence, urls }, index) =>
      el(
        "li",
        {},
        chip({
          click: () => search(name),
          on: boxes.lights("celebrities", index),
          confidence,
          words: [boxes.dot("celebrities", index), unseen("Show images with "), name],
        }),
        urls.map((url) => linkTo(url, name)),
      ),
    ),
  );

/** The API gives them without a scheme. What cannot be an address on the web is left out. */
function linkTo(text, name) {
  const address = URL.parse?.(`https://${text}`) ?? null;
  const host = text.split(/[/?#]/, 1)[0].toLowerCase();
  if (!address || !HOST.test(host)) return null;
  return el(
    "a",
    { href: address.href, target: "_blank", rel: "noopener noreferrer" },
    host.replace(/^www\./, ""),
    unseen(` about ${name}, in a new tab`),
  );
}

/** Nothing can be done with a face; it takes the focus, so that one can see which it is. */
const faces = (found, boxes) =>
  el(
    "ul",
    { class: "people", role: "list" },
    found.map(({ confidence, attributes }, index) =>
      el(
        "li",
        { class: "face-entry", tabindex: 0, on: boxes.lights("faces", index) },
        boxes.dot("faces", index),
        el("span", {}, faceName(index)),
        el("span", { class: "amount" }, percent(confidence)),
        attributes.length > 0 &&
          el("span", { class: "attributes" }, attributes.map(attribute).join(" · ")),
      ),
    ),
  );

/** `smile 98 %`, `no beard 97 %`, `age 25–35`, `happy 95 %` */
function attribute({ name, value, confidence }) {
  const words = trait(name, value);
  return confidence === undefined ? words : `${words} ${percent(confidence)}`;
}

function trait(name, value) {
  const plain = SHORTER.get(name) ?? name.replaceAll("_", " ");
  if (value === "true") return plain;
  if (value === "false") return OPPOSITES.get(name) ?? `no ${plain}`;
  return `${plain} ${value.toLowerCase()}`.trim();
}

/** Lines without a word, such as a row of dots, cannot be searched for. */
const textLines = (lines, boxes, searchText) =>
  chips(
    lines.map(({ text, confidence }, index) =>
      chip({
        click: () => searchText(text),
        on: boxes.lights("text", index),
        isDisabled: !wordsOf(text).length,
        confidence,
        words: [
          boxes.dot("text", index),
          unseen("Show images with the words "),
          el("span", { class: "name" }, text),
        ],
      }),
    ),
  );

const chips = (list) =>
  el(
    "ul",
    { class: "chips", role: "list" },
    list.map((one) => el("li", {}, one)),
  );

/** A button as full as Rekognition is sure. */
const chip = ({ click, confidence, words, on = {}, isDisabled = false, ...attributes }) =>
  el(
    "button",
    {
      type: "button",
      class: "chip label",
      "aria-disabled": isDisabled && "true",
      style: { "--confidence": `${confidence}%` },
      on: { ...on, click: isDisabled ? () => {} : click },
      ...attributes,
    },
    words,
    el("span", { class: "amount" }, percent(confidence)),
  );
