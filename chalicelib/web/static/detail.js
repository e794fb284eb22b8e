/** One image in full: its picture with the boxes of its labels, and all that is known of it. */

import * as api from "./api.js";
import { announce } from "./announcer.js";
import { Boxes } from "./boxes.js";
import { isInProgress, isWithheld } from "./collection.js";
import { closeOnBackdrop } from "./dialogs.js";
import { $, el, fill, icon, section, unseen, whenReleased } from "./dom.js";
import * as duplicates from "./duplicates.js";
import { STATUS_WORDS, bytes, fileName, moment, percent, reasonOf, shutter, size } from "./format.js";
import { picture, placeholder, ratioOf, renditionFor, windowOf } from "./pictures.js";
import { moderation, recognized } from "./recognition.js";
import { awaitsVerdict, review, veil } from "./review.js";
import { goToImage, leaveImage, route } from "./route.js";

const SWIPE_PX = 60;

/** A small picture is not blown up beyond recognition, nor shown as a stamp. */
const LEAST_WIDTH = 320;

const MOST_SIMILAR = 12;
const SIMILAR_WIDTH = 96;

const NOTHING_TO_SHOW = "There is no picture of it yet. Try again once it has been processed.";

export class Detail {
  #dialog = $("#detail");
  #collection;
  #actions;
  #image = null;
  #whole = null;
  #boxes = new Boxes(this.#dialog);
  #turn = 0;

  /**
   * @param actions `search(label)`, `searchText(line)`, `remove(image)`, `retry(image)`,
   *   `release(image)`, `refused(image, error)` for what was asked of an image, `closed(id)`,
   *   `failed(error)`, and `gone(id)` for an image that has been deleted
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
    collection.addEventListener("change", ({ detail }) =>
      whenReleased(this.#dialog, () => this.#refresh(detail)),
    );
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
    this.#turn += 1;
    if (!id) return;
    fill($("#detail-picture")); // what is loading need not go on
    this.#dialog.close();
    this.#actions.closed(id);
  }

  #show(image) {
    const isNew = image.image_id !== this.#image?.image_id;
    this.#image = image;
    this.#turn += 1; // which hides again what a reviewer was shown
    this.#boxes.of(image);
    if (!this.#dialog.open) this.#dialog.showModal();
    $("#detail-name").textContent = fileName(image);
    $("#detail-line").textContent = lineOf(image);
    $("#detail-again").disabled = isInProgress(image);
    $("#detail-delete").hidden = awaitsVerdict(image); // it stands beside the other verdict
    fill($("#detail-picture"), this.#easel(image));
    fill($("#detail-facts"), this.#facts(image));
    this.#arrows();
    if (isNew) {
      $(".facts", this.#dialog).scrollTop = 0;
      this.#whole = null;
      fill($("#detail-more"));
      this.complain(image.image_id, null);
      announce(`${fileName(image)}, ${stateOf(image)}.`);
    }
    if (!this.#dialog.contains(document.activeElement)) $("#detail-close").focus();
    this.#askMore(image);
  }

  /**
   * What a list does not tell: the versions of the original, which pictures are similar, and what its
   * duplicates are called.
   */
  async #askMore({ image_id: id, updated_at, duplicates: known }) {
    const [whole, similar, same] = await Promise.all([
      api.show(id).catch((error) => error),
      api.similar(id, MOST_SIMILAR).catch(() => null),
      duplicates.found(known, this.#collection),
    ]);
    await new Promise((resolve) => whenReleased(this.#dialog, resolve));
    if (this.#image?.image_id !== id || this.#image.updated_at !== updated_at) return;
    if (whole.status === 404) {
      this.#actions.gone(id);
      return;
    }
    this.#whole = whole instanceof Error ? null : whole;
    fill(
      $("#detail-more"),
      same.length > 0 && section("Duplicates", duplicates.list(same)),
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
      b: () => this.#boxes.toggle(),
    }[event.key];
    if (!run || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    run();
  }

  #easel(image) {
    if (isWithheld(image)) return veil(image, () => this.#look(image));
    if (image.status === "FAILED") return this.#failure(image);
    if (!image.renditions.length) return waiting(image);
    return this.#frame(image, isInProgress(image) && el("div", { class: "again" }, waiting(image)));
  }

  /** The picture under its boxes. Where there is none but a crop, it is framed as that. */
  #frame(image, over) {
    const width = Math.min(innerWidth, 1600);
    const rendition = renditionFor(image, width);
    const window = windowOf(rendition, image);
    const shape = window?.width === 1 && window.height === 1 ? image : rendition;
    const style = { "--ratio": ratioOf(shape), "--most": `${mostWidth(shape)}px` };
    return el(
      "div",
      { class: "frame", style },
      placeholder(image),
      picture(image, width),
      window && this.#boxes.layer(window),
      over,
    );
  }

  /** Show a withheld picture, until something else is shown. */
  async #look(image) {
    const turn = this.#turn;
    this.complain(image.image_id, null);
    const seen = await api.review(image.image_id).catch((error) => error);
    if (turn !== this.#turn) return;
    if (seen instanceof Error) await this.#actions.refused(image, seen);
    else if (!seen.renditions.length)
      this.complain(image.image_id, new Error(NOTHING_TO_SHOW));
    else {
      // The verdict is about what is seen, which may be newer than what the list has.
      if (seen.updated_at !== image.updated_at) this.#show({ ...seen, renditions: [] });
      this.#boxes.of(seen);
      const hide = el("button", { type: "button", class: "hide" }, "Hide the picture");
      hide.addEventListener("click", () => this.#hide());
      fill($("#detail-picture"), this.#frame(seen, hide));
      hide.focus();
    }
  }

  #hide() {
    fill($("#detail-picture"), this.#easel(this.#image));
    $("#detail-picture button")?.focus();
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
      isWithheld(image) && review(image, this.#actions),
      ...recognized(image, this.#boxes, this.#actions),
      !isWithheld(image) &&
        image.moderation_labels.length > 0 &&
        section("Moderation", moderation(image, this.#actions.search)),
      image.renditions.length > 0 && section("Renditions", renditions(image)),
      image.fingerprint?.colors?.length > 0 &&
        section("Palette", palette(image.fingerprint.colors)),
      section("Details", definitions([...metadata(image), ...qualities(properties)])),
      hasCamera(exif) && section("Camera", definitions(camera(exif))),
    ];
  }
}

function lineOf(image) {
  const parts = [stateOf(image), moment(image.uploaded_at)];
  if (image.released) parts.push("Released by a reviewer");
  return parts.join(" · ");
}

/** `Quarantined`, `Quarantined, Queued`, `Completed` */
function stateOf(image) {
  const words = isWithheld(image) ? [STATUS_WORDS.QUARANTINED] : [];
  return [...new Set([...words, STATUS_WORDS[image.status]])].join(", ");
}

const mostWidth = (image) => Math.max(image.width, LEAST_WIDTH);

const waiting = (image) =>
  el(
    "div",
    { class: "verdict" },
    el("span", { class: "spinner", "aria-hidden": "true" }),
    el("p", {}, STATUS_WORDS[image.status]),
  );

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
