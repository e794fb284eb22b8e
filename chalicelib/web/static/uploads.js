/** The tray of uploads: a row for each file or URL, from waiting to what became of it. */

import * as api from "./api.js";
import { IN_PROGRESS } from "./collection.js";
import { $, el, fill, icon, unseen, whenReleased } from "./dom.js";
import { bytes, count, fileName, labelLine, number, reasonOf } from "./format.js";
import { placeholder, renditionFor } from "./pictures.js";

const AT_ONCE = 3;

/** How long the tray stays open once all is completed. */
const FOLD_MS = 2500;

/** How often a file is tried by itself, after a pause that grows with each setback, to a bound. */
const TRIES = 6;
const PAUSE_MS = 1000;
const MOST_PAUSE_MS = 30_000;

/** The states of a row. Those in which something still goes on have no verdict. */
const WORDS = {
  WAITING: "Waiting",
  SENDING: "Uploading …",
  FETCHING: "Fetching from its URL …",
  STORED: "Stored, about to be registered …",
  QUEUED: "Queued",
  PROCESSING: "Processing …",
};

const PROCESSED = ["COMPLETED", "QUARANTINED", "FAILED"];
const UNSENT = ["WAITING", "SENDING", "FETCHING"];

/** S3's codes for a permit that has run out; the next try gets another. */
const EXPIRED = ["AccessDenied", "ExpiredToken"];

const LOST =
  "S3 has the file, but the pipeline has not heard of it. " +
  "It may still appear: what was missed is looked for every hour.";

class Upload {
  state = "WAITING";
  progress = 0;
  imageId = null;
  error = null;
  tries = 0;
  preview = null;
  #abort = new AbortController();
  #permit = null;
  #idempotencyKey = crypto.randomUUID();

  /** @param source a file, or the URL to fetch from */
  constructor({ file = null, url = null, name = "" }) {
    Object.assign(this, { file, url, name: name || file?.name || nameIn(url) || url });
    this.wantedName = name;
    this.size = file && bytes(file.size);
  }

  get isOver() {
    return !(this.state in WORDS);
  }

  /** Withheld is neither good nor bad: that is not known yet. */
  get isWithheld() {
    return this.state === "QUARANTINED";
  }

  get isBad() {
    return this.isOver && this.state !== "COMPLETED" && !this.isWithheld;
  }

  /** Whether the same again may go better. */
  get mayPass() {
    const { state, error, url } = this;
    return state === "REFUSED" && Boolean(error.passes || url || EXPIRED.includes(error.code));
  }

  /** Whether another has its name. */
  get isNamesake() {
    return this.state === "REFUSED" && this.error.code === "key_taken" && Boolean(this.file);
  }

  async send(onProgress) {
    this.state = this.file ? "SENDING" : "FETCHING";
    const { signal } = this.#abort;
    const accepted = this.file
      ? await this.#store(signal, onProgress)
      : await api.ingest({ url: this.url, name: this.wantedName }, this.#idempotencyKey, signal);
    this.imageId = accepted.image_id;
    this.name = fileName(accepted);
    this.state = this.file ? "STORED" : "QUEUED"; // or further: whoever hears of it says so
  }

  /** Straight to S3. The same permit again is the same image, however far the last try came. */
  async #store(signal, onProgress) {
    if (Date.parse(this.#permit?.upload.expires_at) < Date.now()) this.#permit = null;
    this.#permit ??= await api.permit(this, signal);
    await api.upload(this.file, this.#permit.upload, signal, onProgress);
    onProgress(1);
    return this.#permit;
  }

  /** Back in line, to go on from there. False when it has been tried often enough. */
  postpone(error) {
    if (!error.passes) return false;
    if (navigator.onLine) this.tries += 1; // without a network it is no try
    if (this.tries >= TRIES) return false;
    Object.assign(this, { state: "WAITING", progress: 0, error });
    return true;
  }

  /** What did not pass through for want of a network may go on; anything else starts anew. */
  refuse(error) {
    this.state = error.name === "AbortError" ? "CANCELLED" : "REFUSED";
    this.error = error;
    if (error.passes) return;
    if (error.code === "key_taken") error.message = `There is an image named ${this.name} already.`;
    this.#permit = null;
    this.#idempotencyKey = crypto.randomUUID();
  }

  cancel() {
    this.#abort.abort();
  }

  again(name = this.name) {
    this.#abort = new AbortController();
    Object.assign(this, { state: "WAITING", progress: 0, error: null, tries: 0, name });
  }
}

/** Tells `sent` with each upload that has arrived, and `over` when it is known what became of it. */
export class Uploads extends EventTarget {
  #uploads = [];
  #rows = new Map();
  #tray = $("#tray");
  #list = $("#tray-list");
  #againAll = headButton("Try all again", () => this.#tryAllAgain());
  #keepAll = headButton("Keep all", () => this.#keepThemAll());
  #setbacks = 0;
  #pause = null;
  #open;
  #retry;

  /** @param actions `open(id)`, and `retry(image)` for one that has failed */
  constructor({ open, retry }) {
    super();
    this.#open = open;
    this.#retry = retry;
    $("#tray-toggle").addEventListener("click", () => this.#fold());
    $("#tray-clear").addEventListener("click", () => this.#clear());
    $("#tray-clear").before(this.#keepAll, this.#againAll);
    addEventListener("online", () => this.#goOn());
    addEventListener("beforeunload", (event) => this.#isSending() && event.preventDefault());
  }

  add(sources) {
    const added = sources.map((source) => new Upload(source));
    this.#uploads.push(...added);
    this.#list.append(...added.map((upload) => this.#row(upload)));
    this.#fold(false);
    this.#next();
  }

  /** What an image looks like before it is processed: `{ url, width, height }`, where that shows. */
  previewOf(imageId) {
    return this.#of(imageId)?.preview ?? null;
  }

  /** Show in its row how far an image is: its status, or all of it once that is final. */
  follow(image) {
    const upload = this.#of(image.image_id);
    if (!upload) return;
    upload.state = image.status;
    upload.error = image.error;
    if (upload.isOver) this.#finish(upload, image);
    this.#paint(upload);
  }

  /** An image that is processed again is on its way again. */
  reopen(status) {
    const upload = this.#uploads.findLast(({ imageId }) => imageId === status.image_id);
    if (!upload) return;
    upload.state = status.status;
    this.#paint(upload);
  }

  /** S3 has it, and nothing came of that. */
  lose(imageId) {
    const upload = this.#of(imageId);
    if (!upload) return;
    upload.refuse(new Error(LOST));
    this.#tell(upload);
    this.#paint(upload);
  }

  /** An image that was deleted has no row any more. */
  forget(imageId) {
    for (const upload of this.#uploads.filter((upload) => upload.imageId === imageId))
      this.#discard(upload);
    this.#summarize();
  }

  #of(imageId) {
    return this.#uploads.findLast((upload) => upload.imageId === imageId && !upload.isOver);
  }

  #isSending() {
    return this.#uploads.some((upload) => UNSENT.includes(upload.state));
  }

  #isHeld() {
    return this.#setbacks > 0 && this.#uploads.some(({ state }) => state === "WAITING");
  }

  /** Three at a time; after a setback one, once the pause is over, until one has arrived. */
  #next() {
    const sending = this.#uploads.filter((upload) =>
      ["SENDING", "FETCHING"].includes(upload.state),
    );
    const waiting = this.#uploads.filter((upload) => upload.state === "WAITING");
    const inTurn = waiting.toSorted((one, other) => one.tries - other.tries);
    const places = Math.max(0, this.#placesNow() - sending.length);
    for (const upload of inTurn.slice(0, places)) this.#send(upload);
    this.#summarize();
  }

  #placesNow() {
    if (!this.#setbacks) return AT_ONCE;
    return this.#pause || !navigator.onLine ? 0 : 1;
  }

  /** Those that were on their way together are one setback. */
  #holdOn() {
    if (this.#pause) return;
    const pause = Math.min(PAUSE_MS * 2 ** this.#setbacks, MOST_PAUSE_MS);
    this.#setbacks += 1;
    this.#pause = setTimeout(() => this.#goOn(this.#setbacks), pause);
  }

  /** The pause is over. Setbacks that still count have one go ahead of the others. */
  #goOn(setbacks = Math.min(this.#setbacks, 1)) {
    clearTimeout(this.#pause);
    this.#pause = null;
    this.#setbacks = setbacks;
    this.#next();
  }

  async #send(upload) {
    this.#preview(upload);
    const sending = upload.send((progress) => this.#advance(upload, progress));
    this.#paint(upload);
    try {
      await sending;
      if (!this.#pause) this.#setbacks = 0;
      this.dispatchEvent(new CustomEvent("sent", { detail: upload }));
    } catch (error) {
      if (error.passes) this.#holdOn();
      if (!upload.postpone(error)) {
        upload.refuse(error);
        this.#tell(upload);
      }
    }
    this.#paint(upload);
    this.#next();
  }

  #advance(upload, progress) {
    upload.progress = progress;
    const bar = $("progress", this.#rows.get(upload));
    if (bar) bar.value = progress;
    $(".state", this.#rows.get(upload)).textContent = wordsFor(upload);
    this.#summarize();
  }

  /** A file that the browser can show is shown at once. */
  #preview(upload) {
    if (!upload.file || upload.preview) return;
    const url = URL.createObjectURL(upload.file);
    const img = el("img", { alt: "", src: url });
    img.addEventListener("load", () => {
      if (upload.isOver) return URL.revokeObjectURL(url);
      upload.preview = { url, width: img.naturalWidth, height: img.naturalHeight };
      fill($(".thumb", this.#rows.get(upload)), img);
      this.dispatchEvent(new Event("preview"));
    });
    img.addEventListener("error", () => URL.revokeObjectURL(url));
  }

  #finish(upload, image) {
    const source = image.renditions.toSorted((one, other) => one.width - other.width)[0];
    upload.labels = labelLine(image);
    upload.reasons = image.withheld_for.join(", ");
    if (upload.isWithheld) fill($(".thumb", this.#rows.get(upload)), placeholder(image));
    else if (source) {
      const thumb = el("img", { alt: "", src: (renditionFor(image, 60) ?? source).url });
      fill($(".thumb", this.#rows.get(upload)), thumb);
    }
    if (upload.preview) URL.revokeObjectURL(upload.preview.url);
    upload.preview = null;
    this.#tell(upload);
  }

  /** What did not go well comes to the top, in the order of adding; when all did, the tray folds. */
  #tell(upload) {
    if (upload.isBad) whenReleased(this.#list, () => this.#raise(upload));
    else if (this.#uploads.every(({ state }) => state === "COMPLETED")) this.#foldSoon();
    this.dispatchEvent(new CustomEvent("over", { detail: upload }));
  }

  #raise(upload) {
    const bad = this.#uploads.filter(({ isBad }) => isBad);
    if (!bad.includes(upload)) return; // any more
    const before = this.#rows.get(bad[bad.indexOf(upload) - 1]);
    if (before) before.after(this.#rows.get(upload));
    else this.#list.prepend(this.#rows.get(upload));
  }

  #row(upload) {
    const row = el(
      "li",
      { class: "upload" },
      el("span", { class: "thumb" }, icon(upload.file ? "image" : "link")),
      el("div", { class: "what" }),
      el("div", { class: "actions" }),
    );
    this.#rows.set(upload, row);
    this.#draw(upload);
    return row;
  }

  #paint(upload) {
    whenReleased(this.#list, () => this.#rows.has(upload) && this.#draw(upload));
    this.#summarize();
  }

  #draw(upload) {
    const row = this.#rows.get(upload);
    const held = row.contains(document.activeElement);
    row.dataset.state = upload.state;
    fill($(".what", row), this.#name(upload), ...this.#state(upload));
    fill($(".actions", row), this.#actions(upload));
    if (held) ($("button", row) ?? $("#tray-toggle")).focus();
  }

  #name(upload) {
    if (!PROCESSED.includes(upload.state)) return el("span", { class: "name" }, upload.name);
    const open = () => this.#open(upload.imageId);
    return el("button", { type: "button", class: "name link", on: { click: open } }, upload.name);
  }

  #state(upload) {
    const isMoving = ["SENDING", "FETCHING"].includes(upload.state);
    return [
      el("span", { class: "state" }, wordsFor(upload)),
      isMoving &&
        el("progress", {
          max: 1,
          value: upload.file ? upload.progress : null,
          "aria-label": `Upload of ${upload.name}`,
        }),
    ];
  }

  #actions(upload) {
    const [text, run] = this.#action(upload) ?? [];
    const says = unseen(` ${upload.name}`);
    return (
      run && el("button", { type: "button", class: "quiet small", on: { click: run } }, text, says)
    );
  }

  /** What can be done about an upload: cancel it, or send it again. */
  #action(upload) {
    const { state, name } = upload;
    if (UNSENT.includes(state)) return ["Cancel", () => this.#cancel(upload)];
    if (state === "FAILED")
      return ["Try again", () => this.#retry({ image_id: upload.imageId, key: name })];
    if (upload.isNamesake) return ["Keep both", () => this.#again(upload, otherName(name))];
    const mayGoOn = upload.mayPass || state === "CANCELLED";
    return mayGoOn ? ["Try again", () => this.#again(upload)] : null;
  }

  #again(upload, name) {
    upload.again(name);
    this.#paint(upload);
    this.#goOn();
  }

  /** Whoever asks for it knows better than the pause. */
  #tryAllAgain() {
    for (const upload of this.#uploads.filter(({ mayPass }) => mayPass)) {
      upload.again();
      this.#draw(upload);
    }
    $("#tray-toggle").focus();
    this.#goOn(0);
  }

  #keepThemAll() {
    for (const upload of this.#uploads.filter(({ isNamesake }) => isNamesake)) {
      upload.again(otherName(upload.name));
      this.#draw(upload);
    }
    $("#tray-toggle").focus();
    this.#goOn();
  }

  #cancel(upload) {
    upload.cancel();
    if (upload.state !== "WAITING") return;
    upload.state = "CANCELLED";
    this.#paint(upload);
  }

  #summarize() {
    const over = this.#uploads.filter((upload) => upload.isOver);
    const bad = over.filter((upload) => upload.isBad);
    const held = over.filter((upload) => upload.isWithheld);
    const all = this.#uploads.length;
    const good = over.length - bad.length - held.length;
    this.#tray.hidden = all === 0;
    $("#tray-clear").hidden = over.length === 0;
    this.#againAll.hidden = !this.#isHeld() && bad.filter(({ mayPass }) => mayPass).length < 2;
    this.#keepAll.hidden = bad.filter(({ isNamesake }) => isNamesake).length < 2;
    $("#tray-count").textContent = countOf(good, over.length, all);
    $("#tray-held").textContent = held.length ? `${number(held.length)} withheld` : "";
    $("#tray-bad").textContent = bad.length ? `${number(bad.length)} not completed` : "";
    $("#tray-progress").value = all ? sum(this.#uploads.map(share)) / all : 0;
    $("#tray-progress").hidden = over.length === all;
  }

  #fold(folded = $("#tray-toggle").getAttribute("aria-expanded") === "true") {
    $("#tray-toggle").setAttribute("aria-expanded", String(!folded));
    $("#tray-body").hidden = folded;
  }

  #foldSoon() {
    setTimeout(() => {
      const isDone = this.#uploads.every(({ state }) => state === "COMPLETED");
      if (isDone && !this.#tray.matches(":hover, :focus-within")) this.#fold(true);
    }, FOLD_MS);
  }

  #clear() {
    for (const upload of this.#uploads.filter((upload) => upload.isOver)) this.#discard(upload);
    this.#summarize();
    if (!this.#tray.hidden) $("#tray-toggle").focus();
    else $("#choose").focus();
  }

  #discard(upload) {
    if (upload.preview) URL.revokeObjectURL(upload.preview.url);
    this.#rows.get(upload).remove();
    this.#rows.delete(upload);
    this.#uploads = this.#uploads.filter((other) => other !== upload);
  }
}

const headButton = (text, click) =>
  el("button", { type: "button", class: "quiet small", hidden: true, on: { click } }, text);

function countOf(good, over, all) {
  if (over < all) return `${number(good)} of ${number(all)} done`;
  return good < all
    ? `${number(good)} of ${number(all)} completed`
    : `${count(all, "upload")} done`;
}

function wordsFor(upload) {
  const { state, progress, labels, reasons, error } = upload;
  const words = {
    ...WORDS,
    WAITING: error ? `Waiting to be tried again: ${reasonOf(upload)}` : WORDS.WAITING,
    SENDING:
      progress < 1 ? `${Math.floor(progress * 100)} % of ${bytes(upload.file?.size)}` : "Storing …",
    COMPLETED: labels ? `Completed: ${labels}` : "Completed",
    QUARANTINED: `Withheld until somebody has looked at it: ${reasons}`,
    CANCELLED: "Cancelled",
  };
  return words[state] ?? reasonOf(upload);
}

/** How much of its way an upload has behind it: half for being sent, half for being processed. */
function share(upload) {
  if (upload.isOver) return 1;
  return IN_PROGRESS.includes(upload.state) ? 0.6 : upload.progress / 2;
}

const sum = (values) => values.reduce((total, value) => total + value, 0);

/** The last part of a URL's path, as it stands where it cannot be decoded (`100%.jpg`). */
function nameIn(url) {
  const name = URL.parse?.(url)?.pathname.split("/").at(-1) ?? "";
  try {
    return decodeURI(name);
  } catch {
    return name;
  }
}

/** `cat (2).jpg` after `cat.jpg`, `cat (3).jpg` after that. */
function otherName(name) {
  const [, stem, number, extension] = /^(.*?)(?: \((\d+)\))?(\.[^.]*)?$/s.exec(name);
  return `${stem} (${Number(number ?? 1) + 1})${extension ?? ""}`;
}
