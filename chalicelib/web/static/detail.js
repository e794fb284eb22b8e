/** One image in full: its picture with the boxes of its labels, and all that is known of it. */

import * as api from "./api.js";
import { announce } from "./announcer.js";
import { closeOnBackdrop } from "./dialogs.js";
import { isInProgress } from "./collection.js";
import { $, el, fill, icon, unseen } from "./dom.js";
import { bytes, fileName, moment, percent, reasonOf, shutter, size } from "./format.js";
import { picture, placeholder, ratioOf } from "./pictures.js";
import { goToImage, leaveImage, route } from "./route.js";

const BOXES_KEY = "image-pipeline.boxes";
const SWIPE_PX = 60;
const STATUS_WORDS = {
  QUEUED: "Queued",
  PROCESSING: "Processing …",
  COMPLETED: "Completed",
  FAILED: "Failed",
};

/** A small picture is not blown up beyond recognition, nor shown as a stamp. */
const LEAST_WIDTH = 320;

const MOST_SIMILAR = 12;
const SIMILAR_WIDTH = 96;

export class Detail {
  #dialog = $("#detail");
  #collection;
  #actions;
  #image = null;
  #whole = null;
  #withBoxes = recall(BOXES_KEY) !== "off";

  /**
   * @param actions `search(label)`, `remove(image)`, `retry(image)`, `closed(id)`, `failed(error)`, and
   *   `gone(id)` for an image that has been deleted
   */
  constructor(collection, actions) {
    this.#collection = collection;
    this.#actions = actions;
    $("#detail-close").addEventListener("click", leaveImage);
    $("#detail-previous").addEventListener("click", () => this.#step(-1));
    $("#detail-next").addEventListener("click", () => this.#step(1));
    $("#detail-delete").addEventListener("click", () => actions.remove(this.#image));
    $("#detail-again").addEventListener("click", () => actions.retry(this.#image));
    $("#detail-json").addEventListener("click", () => showJson(this.#whole ?? this.#image));
    closeOnBackdrop(this.#dialog, leaveImage);
    this.#dialog.addEventListener("keydown", (event) => this.#key(event));
    this.#dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      leaveImage();
    });
    this.#dialog.addEventListener("close", () => {
      if (this.#image && !this.#dialog.open) leaveImage(); // as browsers do whatever they are told
    });
    onSwipe($(".stage", this.#dialog), (step) => this.#step(step));
    collection.addEventListener("change", ({ detail }) => this.#refresh(detail));
  }

  /** Show an image of the list, or any other by its id. */
  async open(id) {
    if (this.#image?.image_id === id) return;
    const image = this.#collection.get(id) ?? (await api.show(id).catch((error) => error));
    if (route().image !== id) return;
    if (image instanceof Error) {
      if (image.status === 404) this.#actions.gone(id);
      else {
        this.#actions.failed(image);
        leaveImage();
      }
    } else this.#show(image);
  }

  /** Say what went wrong with the image; `null`: nothing. Tells whether the image is shown. */
  complain(id, error) {
    if (this.#image?.image_id !== id) return false;
    const line = $("#detail-error");
    line.textContent = error?.message ?? "";
    line.hidden = !error;
    if (error) line.scrollIntoView({ block: "nearest" });
    return true;
  }

  close() {
    const { image_id: id } = this.#image ?? {};
    this.#image = null;
    if (!id) return;
    fill($("#detail-picture")); // what is loading need not go on
    this.#dialog.close();
    this.#actions.closed(id);
  }

  #show(image) {
    const isNew = image.image_id !== this.#image?.image_id;
    this.#image = image;
    if (!this.#dialog.open) this.#dialog.showModal();
    $("#detail-name").textContent = fileName(image);
    $("#detail-line").textContent = lineOf(image);
    $("#detail-again").disabled = isInProgress(image);
    fill($("#detail-picture"), this.#easel(image));
    fill($("#detail-facts"), this.#facts(image));
    this.#arrows();
    if (isNew) {
      $(".facts", this.#dialog).scrollTop = 0;
      this.#whole = null;
      fill($("#detail-more"));
      this.complain(image.image_id, null);
      announce(`${fileName(image)}, ${STATUS_WORDS[image.status]}.`);
    }
    if (!this.#dialog.contains(document.activeElement)) $("#detail-close").focus();
    this.#askMore(image);
  }

  /** What a list does not tell: the versions of the original, and which pictures are similar. */
  async #askMore({ image_id: id, updated_at }) {
    const [whole, similar] = await Promise.all([
      api.show(id).catch((error) => error),
      api.similar(id, MOST_SIMILAR).catch(() => null),
    ]);
    if (this.#image?.image_id !== id || this.#image.updated_at !== updated_at) return;
    if (whole.status === 404) {
      this.#actions.gone(id);
      return;
    }
    this.#whole = whole instanceof Error ? null : whole;
    fill(
      $("#detail-more"),
      similar?.images.length > 0 && section("Similar pictures", strip(similar.images)),
      whole.versions?.length > 0 && section("Versions", versions(whole.versions)),
    );
  }

  /** The image may have changed while it is shown. */
  #refresh(changed) {
    if (!this.#image) return;
    if (changed?.image_id === this.#image.image_id && changed.updated_at !== this.#image.updated_at)
      this.#show(changed);
    else this.#arrows();
  }

  #arrows() {
    const can = (step) => Boolean(this.#collection.neighbour(this.#image, step));
    $("#detail-previous").disabled = !can(-1);
    $("#detail-next").disabled = !can(1) && this.#collection.complete;
  }

  async #step(by) {
    const image = this.#image;
    if (by > 0 && !this.#collection.neighbour(image, by)) await this.#collection.more();
    const neighbour = this.#collection.neighbour(image, by);
    if (neighbour && this.#image === image) goToImage(neighbour.image_id);
  }

  #key(event) {
    const run = {
      ArrowLeft: () => this.#step(-1),
      ArrowRight: () => this.#step(1),
      Delete: () => this.#actions.remove(this.#image),
      Escape: leaveImage,
      b: () => this.#switchBoxes(!this.#withBoxes),
    }[event.key];
    if (!run || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    run();
  }

  #easel(image) {
    if (image.status === "FAILED") return this.#failure(image);
    if (!image.renditions.length) return waiting(image);
    const width = Math.min(innerWidth, 1600);
    const frame = el(
      "div",
      { class: "frame", style: { "--ratio": ratioOf(image), "--most": `${mostWidth(image)}px` } },
      placeholder(image),
      picture(image, width),
      el("div", { class: "boxes", "aria-hidden": "true" }, boxesOf(image)),
      isInProgress(image) && el("div", { class: "again" }, waiting(image)),
    );
    frame.classList.toggle("with-boxes", this.#withBoxes);
    return frame;
  }

  #failure(image) {
    const retry = () => this.#actions.retry(image);
    return el(
      "div",
      { class: "verdict" },
      icon("alert"),
      el("p", { class: "reason" }, reasonOf(image)),
      image.error && el("p", {}, el("code", {}, image.error.code)),
      el("button", { type: "button", on: { click: retry } }, "Try again"),
    );
  }

  #facts(image) {
    const { exif = {}, image_properties: properties } = image;
    return [
      image.labels.length > 0 && section("Labels", this.#labels(image), this.#boxSwitch(image)),
      image.renditions.length > 0 && section("Renditions", renditions(image)),
      image.fingerprint?.colors?.length > 0 &&
        section("Palette", palette(image.fingerprint.colors)),
      section("Details", definitions([...metadata(image), ...qualities(properties)])),
      hasCamera(exif) && section("Camera", definitions(camera(exif))),
    ];
  }

  #labels(image) {
    const dots = dotsOf(image);
    const chips = image.labels.map((label, index) => this.#label(label, index, dots[index]));
    return el("ul", { class: "chips", role: "list" }, chips);
  }

  #label(label, index, dot) {
    const light = (isLit) => () => this.#light(index, isLit);
    const { name, confidence, boxes, parents } = label;
    const chip = el(
      "button",
      {
        type: "button",
        class: "chip label",
        title: parents.length ? `${name} · ${parents.join(" · ")}` : name,
        style: { "--confidence": `${confidence}%` },
        on: {
          click: () => this.#actions.search(name),
          pointerenter: light(true),
          pointerleave: light(false),
          focus: light(true),
          blur: light(false),
        },
      },
      boxes.length > 0 && el("span", { class: "dot", style: { "--hue": hue(dot) } }),
      unseen("Show images with "),
      name,
      el("span", { class: "amount" }, percent(confidence)),
    );
    return el("li", {}, chip);
  }

  /** Make the boxes of one label stand out. */
  #light(index, isLit) {
    const boxes = $(".boxes", this.#dialog);
    boxes?.classList.toggle("dimmed", isLit);
    for (const box of boxes?.children ?? [])
      box.classList.toggle("lit", isLit && box.dataset.labels.split(" ").includes(String(index)));
  }

  #boxSwitch(image) {
    if (!image.labels.some((label) => label.boxes.length)) return null;
    const toggle = (event) => this.#switchBoxes(event.target.checked);
    const box = el("input", { type: "checkbox", id: "with-boxes", on: { change: toggle } });
    box.checked = this.#withBoxes;
    return el("label", { class: "switch" }, box, "Boxes");
  }

  #switchBoxes(isOn) {
    this.#withBoxes = isOn;
    remember(BOXES_KEY, isOn ? "on" : "off");
    $(".frame", this.#dialog)?.classList.toggle("with-boxes", isOn);
    const box = $("#with-boxes");
    if (box) box.checked = isOn;
  }
}

function lineOf(image) {
  const parts = [STATUS_WORDS[image.status], moment(image.uploaded_at)];
  return parts.join(" · ");
}

const mostWidth = (image) => Math.max(image.width, LEAST_WIDTH);

const waiting = (image) =>
  el(
    "div",
    { class: "verdict" },
    el("span", { class: "spinner", "aria-hidden": "true" }),
    el("p", {}, STATUS_WORDS[image.status]),
  );

/** One for each place: a face may be the box of a person too. */
const boxesOf = (image) => placesOf(image).map(boxOf);

/** For each label, the label that its first box has the colour of. */
function dotsOf(image) {
  const places = placesOf(image);
  return image.labels.map(
    (_, index) => places.find(({ indexes }) => indexes.includes(index))?.indexes[0] ?? index,
  );
}

function placesOf(image) {
  const places = new Map();
  for (const [index, label] of image.labels.entries())
    for (const box of label.boxes) {
      const place = JSON.stringify(box);
      if (!places.has(place)) places.set(place, { box, indexes: [], names: [] });
      places.get(place).indexes.push(index);
      places.get(place).names.push(label.name);
    }
  return [...places.values()];
}

/** Boxes are fractions of the upright picture, and so fit each of its renditions. */
function boxOf({ box: { left, top, width, height }, indexes, names }) {
  const place = Object.entries({ left, top, width, height });
  const style = Object.fromEntries(place.map(([side, part]) => [side, `${100 * part}%`]));
  return el(
    "div",
    {
      class: "box",
      "data-labels": indexes.join(" "),
      style: { ...style, "--hue": hue(indexes[0]) },
    },
    el("span", {}, names.join(", ")),
  );
}

/** Hues that differ well from one another however many there are: the golden angle apart. */
const hue = (index) => Math.round((150 + index * 137.5) % 360);

const section = (title, content, aside = null) =>
  el("section", {}, el("div", { class: "section-head" }, el("h3", {}, title), aside), content);

function definitions(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el(
    "dl",
    {},
    known.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))),
  );
}

function metadata(image) {
  return [
    ["Format", image.format && `${image.format}, ${image.color_mode}`],
    ["Size", image.width && `${size(image)} pixels`],
    ["File", image.size_bytes ? bytes(image.size_bytes) : null],
    ["Frames", image.frames > 1 ? String(image.frames) : null],
    ["Transparency", image.has_alpha ? "yes" : null],
    ["Uploaded", moment(image.uploaded_at)],
    [
      image.status === "FAILED" ? "Failed" : "Processed",
      image.processed_at && moment(image.processed_at),
    ],
    ["Notes", image.notes?.length ? image.notes.join("; ") : null],
    ["Object key", el("code", {}, image.key)],
    ["Image id", el("code", {}, image.image_id)],
  ];
}

function qualities(properties) {
  if (!properties) return [];
  const { brightness, sharpness, contrast } = properties;
  return [
    ["Brightness", percent(brightness)],
    ["Sharpness", percent(sharpness)],
    ["Contrast", percent(contrast)],
  ];
}

/** The orientation alone says nothing to a person: the picture is upright already. */
const hasCamera = (exif) => Object.keys(exif).some((tag) => tag !== "orientation");

function camera(exif) {
  return [
    ["Taken", exif.taken_at && moment(exif.taken_at)],
    ["Camera", [exif.make, exif.model].filter(Boolean).join(" ")],
    ["Lens", exif.lens],
    ["Exposure", exif.exposure_s && shutter(exif.exposure_s)],
    ["Aperture", exif.f_number && `f/${exif.f_number}`],
    ["ISO", exif.iso && String(exif.iso)],
    ["Focal length", exif.focal_length_mm && `${exif.focal_length_mm} mm`],
    ["Place", exif.latitude !== undefined && `${exif.latitude}, ${exif.longitude}`],
  ].map(([term, value]) => [term, value || null]);
}

const renditions = (image) =>
  el(
    "ul",
    { class: "renditions", role: "list" },
    image.renditions.map((one) => rendition(one, fileName(image))),
  );

function rendition({ name, url, format, width, height, size_bytes: length }, file) {
  const saved = `${file.replace(/\.[^.]*$/, "")}-${name}.${format}`;
  const click = (event) => save(event, url, saved);
  return el(
    "li",
    {},
    el(
      "a",
      {
        href: isOfTheWeb(url) && url,
        target: "_blank",
        rel: "noopener",
        download: saved,
        on: { click },
      },
      el("span", { class: "name" }, name),
      el(
        "span",
        { class: "amount" },
        `${size({ width, height })} · ${format.toUpperCase()} · ${bytes(length)}`,
      ),
      icon("open"),
    ),
  );
}

/** Never `javascript:`, even if the API should say so. */
const isOfTheWeb = (url) => /^https?:/i.test(url);

/** A browser saves what another origin holds only by way of its bytes; else it opens it. */
async function save(event, url, name) {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const answer = await fetch(url).catch(() => null);
  if (answer?.ok) hand(await answer.blob(), { download: name });
  else open(url, "_blank", "noopener");
}

/** As the API gave it. A link to there would not do: it carries no sign-in. */
const showJson = (image) =>
  hand(new Blob([JSON.stringify(image, null, 2)], { type: "application/json" }), {
    target: "_blank",
    rel: "noopener",
  });

/** Have the browser open or save a blob. */
function hand(blob, attributes) {
  const href = URL.createObjectURL(blob);
  el("a", { href, ...attributes }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

const strip = (images) => el("ul", { class: "strip", role: "list" }, images.map(stripped));

function stripped(image) {
  const open = () => goToImage(image.image_id);
  return el(
    "li",
    {},
    el(
      "button",
      { type: "button", title: fileName(image), on: { click: open } },
      placeholder(image),
      picture(image, SIMILAR_WIDTH),
    ),
  );
}

const versions = (list) => el("ol", { class: "versions" }, list.map(version));

function version({ uploaded_at, size_bytes: length, is_current, is_deleted }) {
  const state = (is_deleted && "deleted") || (is_current && "current");
  return el(
    "li",
    {},
    el("span", {}, moment(uploaded_at)),
    el("span", { class: "amount" }, is_deleted ? null : bytes(length)),
    state && el("span", { class: "badge" }, state),
  );
}

const palette = (colors) => el("ul", { class: "palette", role: "list" }, colors.map(swatch));

function swatch(color) {
  const copy = () =>
    navigator.clipboard?.writeText(color).then(
      () => announce(`${color} copied.`),
      () => announce(`${color} could not be copied.`),
    );
  return el(
    "li",
    {},
    el(
      "button",
      { type: "button", title: `Copy ${color}`, on: { click: copy } },
      el("span", { class: "swatch", style: { background: color } }),
      unseen("Copy "),
      color,
    ),
  );
}

/** Left and right on a touch screen. */
function onSwipe(element, step) {
  let start = null;
  element.addEventListener(
    "touchstart",
    ({ touches }) => (start = touches.length === 1 ? touches[0] : null),
    {
      passive: true,
    },
  );
  element.addEventListener("touchend", ({ changedTouches: [end] }) => {
    const across = start && end ? end.clientX - start.clientX : 0;
    if (Math.abs(across) > SWIPE_PX && Math.abs(across) > 2 * Math.abs(end.clientY - start.clientY))
      step(across < 0 ? 1 : -1);
    start = null;
  });
}

/** A browser may refuse to store anything; then nothing is remembered. */
function recall(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // not worth an error
  }
}
