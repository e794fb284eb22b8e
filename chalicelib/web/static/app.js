/** The page: what it is made of, and how its parts hear of each other. */

import * as api from "./api.js";
import { announce } from "./announcer.js";
import { Banner, Notice } from "./banner.js";
import { Collection, isInProgress } from "./collection.js";
import { Detail } from "./detail.js";
import { confirmDeletion, urlDialog } from "./dialogs.js";
import { $ } from "./dom.js";
import { onDrop } from "./drop.js";
import { Filters, period, toggle, toggleText } from "./filters.js";
import { fileName, quoted, reasonOf, wordsOf } from "./format.js";
import { Gallery, summary } from "./gallery.js";
import { Overview } from "./overview.js";
import { inWords } from "./review.js";
import { filterOf, goToImage, leaveImage, onRoute, route } from "./route.js";
import { Search } from "./search.js";
import { session } from "./session.js";
import { Uploads } from "./uploads.js";
import { Watch } from "./watch.js";

/** How long the list is left alone: longer while nothing happens and nobody is there. */
const CALM_MS = { first: 3000, growth: 1.5, longest: 60_000 };

const DELETED = "This image has been deleted.";

/** The most that the API takes at a time; a line of text may have more. */
const MOST_WORDS = 10;

const collection = new Collection();
const watch = new Watch();
const overview = new Overview();
const uploads = new Uploads({ open: goToImage, retry: (image) => reprocess(image) });
const banner = new Banner(() => reconnect());
const notice = new Notice();
const filters = new Filters(overview);
const gallery = new Gallery(collection, {
  open: goToImage,
  retry: (image) => reprocess(image),
  previewOf: (id) => uploads.previewOf(id),
});
const detail = new Detail(collection, {
  search: (label) => toggle(label, true),
  searchText: (line) => toggleText(wordsOf(line).slice(0, MOST_WORDS).join(" "), true),
  remove: (image) => remove(image),
  retry: (image) => reprocess(image),
  release: (image) => release(image),
  refused: (image, error) => refused(image, error),
  closed: (id) => gallery.focus(id) || $("#statuses :checked").focus(),
  failed: (error) => notice.show(error),
  gone: (id) => vanish(id),
});

// ── what is shown ────────────────────────────────────────────────────────────────────────────────

let asked = null;

function apply(wanted) {
  const { image } = wanted;
  const filter = filterOf(wanted);
  filters.show(wanted);
  if (JSON.stringify(filter) !== asked) {
    asked = JSON.stringify(filter);
    notice.hide();
    if (!image) scrollTo(0, 0);
    collection.ask(filter);
  }
  if (image) detail.open(image);
  else detail.close();
}

onRoute(apply);

// Else a browser that goes back scrolls to where the image was opened, and not to where it is left.
history.scrollRestoration = "manual";

collection.addEventListener("change", () => {
  for (const image of collection.images) if (isInProgress(image)) watch.add(image.image_id);
});

collection.addEventListener("state", () => {
  if (collection.error) banner.show(collection.error);
  else if (!collection.loading) banner.hide();
  describe();
  if (!collection.loading && !collection.error) fillScreen();
});

collection.addEventListener("change", describe);

function describe() {
  const { images, loading, error, complete } = collection;
  const isEmpty = !images.length && complete && !loading && !error;
  const { show, labels, texts, from, to } = route();
  const isFiltered = Boolean(show !== "all" || labels.length || texts.length || from || to);
  $("#welcome").hidden = !isEmpty || isFiltered;
  $("#nothing").hidden = !isEmpty || !isFiltered;
  $("#summary").textContent = loading ? "Loading …" : images.length ? summary(collection) : "";
  $("main").setAttribute("aria-busy", String(loading));
  $("#sign-out").title = session.who ? `Signed in as ${session.who}` : "";
  describeNothing(route());
}

const EMPTY = {
  all: "No images",
  completed: "No completed images",
  progress: "Nothing in progress",
  quarantined: "Nothing in quarantine",
  failed: "No failures",
};

function describeNothing({ show, labels, confidence, texts, from, to }) {
  const named = labels.map(quoted).join(" and ");
  const written = texts.map(quoted).join(" and ");
  const sentence = [
    EMPTY[show],
    named && `with ${named}`,
    named && confidence && `at ${confidence} % or more`,
    written && `${named ? "and" : "with"} ${written} written in them`,
    (from || to) && period(from, to),
  ];
  $("#nothing-title").textContent = sentence.filter(Boolean).join(" ");
  $("#nothing-text").textContent = named
    ? "Completed images have labels, as Rekognition names them in English. " +
      "Put words in quotation marks to look for them in pictures."
    : "New images appear here by themselves.";
}

// ── more, as the page scrolls ────────────────────────────────────────────────────────────────────

const AHEAD_PX = 1200;

// Not an IntersectionObserver: it is silent when the end leaves and comes back within a frame.
for (const sign of ["scroll", "resize"]) addEventListener(sign, fillScreen, { passive: true });

function fillScreen() {
  const isNear = $("#sentinel").getBoundingClientRect().top < innerHeight + AHEAD_PX;
  if (isNear && asked && !collection.error) collection.more();
}

function reconnect() {
  overview.refresh();
  watch.wake();
  if (collection.error) collection.more();
  else refresh();
}

// ── what happens elsewhere ───────────────────────────────────────────────────────────────────────

let calm = CALM_MS.first;
let calmTimer = null;

async function refresh() {
  clearTimeout(calmTimer);
  if (!document.hidden && asked && !collection.error) {
    const news = await collection.refresh().catch((error) => error);
    if (news instanceof Error) banner.show(news);
    else if (!collection.loading && !collection.error) banner.hide(); // which may be another list's
    if (news === true) overview.outdate();
    calm = news === true ? CALM_MS.first : Math.min(calm * CALM_MS.growth, CALM_MS.longest);
  }
  calmTimer = setTimeout(refresh, calm);
}

function stir() {
  if (calm <= 2 * CALM_MS.first) return;
  calm = CALM_MS.first;
  refresh();
}

calmTimer = setTimeout(refresh, calm);
for (const sign of ["pointerdown", "keydown", "focus"]) addEventListener(sign, stir);
document.addEventListener("visibilitychange", stir);

// ── uploads and what becomes of them ─────────────────────────────────────────────────────────────

uploads.addEventListener("sent", ({ detail: { imageId } }) =>
  watch.add(imageId, { isAwaited: true }),
);

uploads.addEventListener("preview", () => gallery.arrange());

uploads.addEventListener("over", ({ detail: upload }) => {
  const labels = upload.labels ? `: ${upload.labels}` : "";
  if (upload.state === "COMPLETED") announce(`${upload.name} completed${labels}.`);
  else if (upload.isWithheld)
    announce(`${upload.name} is withheld until somebody has looked at it.`);
  else if (upload.state !== "CANCELLED") announce(`${upload.name} failed: ${reasonOf(upload)}`);
});

watch.addEventListener("status", async ({ detail: status }) => {
  const { image_id: id } = status;
  const known = isInProgress(status) && collection.get(id);
  if (isInProgress(status)) uploads.follow(status);
  if (known?.status === status.status) return;
  overview.outdate();
  const image = known ? { ...known, ...status } : await api.show(id).catch(() => null);
  if (image) follow(image);
  else watch.add(id); // it is asked for again, and is gone then or is not
});

watch.addEventListener("gone", ({ detail: id }) =>
  route().image === id ? vanish(id) : forget(id),
);

watch.addEventListener("lost", ({ detail: id }) => uploads.lose(id));

function follow(image) {
  if (isInProgress(image)) watch.add(image.image_id);
  uploads.follow(image);
  collection.put(image);
}

function forget(id) {
  collection.drop(id);
  uploads.forget(id);
}

/** Somebody has deleted an image that is shown, or of which something was wanted. */
function vanish(id) {
  forget(id);
  overview.outdate();
  if (route().image === id) {
    announce(DELETED); // the notice is not heard while it is behind the image
    leaveImage();
  }
  notice.show(DELETED);
}

async function remove(image) {
  const { image_id: id } = image;
  notice.hide();
  const isGone = await confirmDeletion(image, removeOnce);
  if (!isGone) return;
  const isShown = route().image === id;
  const next = collection.neighbour(image, 1) ?? collection.neighbour(image, -1);
  forget(id);
  overview.outdate();
  announce(`${fileName(image)} deleted.`);
  if (!isShown) return;
  if (next) goToImage(next.image_id);
  else leaveImage();
}

/** Somebody else may have deleted it already, which is as good. */
const removeOnce = ({ image_id: id }) =>
  api.remove(id).catch((error) => {
    if (error.status !== 404) throw error;
  });

/** Process an image again; its way is followed like that of a new one. */
const reprocess = (image) =>
  followed(image, `${fileName(image)} is processed again.`, () => api.reprocess(image.image_id));

/** Release what somebody has looked at: this version, and no other. */
const release = (image) =>
  followed(image, `${fileName(image)} is released, and processed again.`, () =>
    api.release(image.image_id, image.version_id),
  );

async function followed(image, words, ask) {
  const { image_id: id } = image;
  notice.hide();
  detail.complain(id, null);
  try {
    const status = await ask();
    announce(words);
    uploads.reopen(status);
    follow(await api.show(id));
    overview.outdate();
  } catch (error) {
    await refused(image, error);
  }
}

/** Say what the API said no with; where it is another image by now, show it as it is. */
async function refused({ image_id: id }, error) {
  if (error.status === 404) {
    vanish(id);
    return;
  }
  if (!detail.complain(id, inWords(error))) notice.show(inWords(error));
  if (error.status !== 409) return;
  overview.outdate();
  const image = await api.show(id).catch(() => null);
  if (image) follow(image);
}

// ── searching ────────────────────────────────────────────────────────────────────────────────────

new Search({
  label: (name) => toggle(name, true),
  text: (words) => toggleText(words, true),
  file: (name) => openFile(name),
});

async function openFile(name) {
  notice.hide();
  try {
    goToImage((await api.showByName(name)).image_id);
    return true;
  } catch (error) {
    notice.show(error);
    return false;
  }
}

// ── ways in ──────────────────────────────────────────────────────────────────────────────────────

const askForUrl = urlDialog((source) => uploads.add([source]));
const choose = () => $("#files").click();

$("#choose").addEventListener("click", choose);
$("#welcome-choose").addEventListener("click", choose);
$("#from-url").addEventListener("click", askForUrl);
$("#welcome-url").addEventListener("click", askForUrl);
$("#files").addEventListener("change", ({ target }) => {
  send([...target.files]);
  target.value = "";
});
onDrop(send);
addEventListener("paste", ({ clipboardData }) => send([...clipboardData.files]));

function send(files) {
  if (!files.length) return;
  notice.hide();
  uploads.add(files.map((file) => ({ file })));
}

$("#curl").textContent =
  `curl --data-binary @cat.jpg '${new URL("images?name=cat.jpg", location.href.split("#")[0])}'`;

// ── leaving ──────────────────────────────────────────────────────────────────────────────────────

$("#sign-out").hidden = !session.leave;
$("#sign-out").addEventListener("click", () => {
  session.leave(); // what it asks for outlives the page
  document.body.hidden = true; // until then nothing that was shown is left, nor asks for anything
  location.replace(location.pathname);
});

apply(route());
overview.refresh();
