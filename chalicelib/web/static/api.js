/** The REST API. Its root is found beside this file, so any stage or base path will do. */

import { session } from "./session.js";

const ROOT = new URL("../", import.meta.url);

const SILENT = "The API does not answer. Check the connection, or whether it is running.";
const S3_SILENT = "The connection to S3 broke off. Nothing is lost.";

/** What S3 refuses an upload with (AWS, S3 API reference, "Error responses"), for people. */
const REFUSALS = {
  EntityTooLarge: ({ max_bytes: most }) =>
    `The file is over the limit of ${most.toLocaleString()} bytes.`,
  EntityTooSmall: () => "The file is empty.",
  ExpiredToken: () => "The permission to upload has run out. Try again for a new one.",
  AccessDenied: () => "S3 refused the file: the permission to upload has run out, or is not given.",
};

/** Types that the API lets through; anything else is sent as a nameless stream. */
const PICTURE = /^image\/(avif|bmp|gif|heic|heif|jpeg|png|tiff|webp)$/;

/** What the API said no with. Its `message` is for people, its `code` for programs. */
class ApiError extends Error {
  constructor(message, { status = 0, code = null } = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
  }

  /** Whether trying again may help. */
  get passes() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** A page of images, newest first: `{ images, cursor }`. It may hold none and yet not be the last. */
export const list = ({ labels = [], texts = [], ...others }) =>
  call("GET", `images?${query({ ...others, label: labels, text: texts })}`);

export const show = (id) => call("GET", imagePath(id));

export const showByName = (name) =>
  call("GET", `images/uploads/${encodeURIComponent(name)}/status`);

export const status = (id) => call("GET", imagePath(id, "/status"));

export const similar = (id, limit) => call("GET", imagePath(id, `/similar?${query({ limit })}`));

export const remove = (id) => call("DELETE", imagePath(id));

export const reprocess = (id) => call("POST", imagePath(id, "/reprocess"));

/** An image that is withheld, with links to its renditions: for reviewers. */
export const review = (id) => call("GET", imagePath(id, "/review"));

/** Release the version that was looked at; refused if it is not the one that is there. */
export const release = (id, version) =>
  call("POST", imagePath(id, `/release?${query({ version_id: version })}`));

/** Labels of the whole catalog, most frequent first: `{ labels: [{ name, images }], total }`. */
export const labels = ({ prefix, limit }) => call("GET", `labels?${query({ prefix, limit })}`);

export const stats = () => call("GET", "stats");

/** Have the API fetch a picture. With the same key again it is the same image, and not another. */
export const ingest = ({ url, name }, idempotencyKey, signal) =>
  call("POST", "images", {
    body: { url, ...(name && { name }) },
    headers: { "Idempotency-Key": idempotencyKey },
    signal,
  });

/** Ask for the permission to upload a file straight to S3; `upload` takes it. */
export async function permit({ file, name }, signal) {
  if (file.size === 0) throw new ApiError(REFUSALS.EntityTooSmall(), { status: 400 });
  return call("POST", "uploads", {
    body: {
      name,
      content_type: PICTURE.test(file.type) ? file.type : "application/octet-stream",
      size_bytes: file.size,
    },
    signal,
  });
}

/** Upload by presigned POST. XMLHttpRequest, since fetch tells no progress of an upload. */
export function upload(file, { url, fields, max_bytes }, signal, onProgress) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("file", file); // S3 ignores what comes after it
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.upload.addEventListener("progress", ({ loaded, total }) => onProgress(loaded / total));
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300) resolve();
      else reject(refusal(request, max_bytes));
    });
    request.addEventListener("error", () => reject(new ApiError(S3_SILENT)));
    request.addEventListener("abort", () => reject(signal.reason));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** S3 says no in XML. Read by pattern: a parser would be asked to trust it. */
function refusal({ status, responseText }, max_bytes) {
  const said = (tag) => new RegExp(`<${tag}>([^<]*)</${tag}>`).exec(responseText)?.[1];
  const code = said("Code");
  const message =
    REFUSALS[code]?.({ max_bytes }) ?? `S3 refused the file: ${said("Message") ?? status}`;
  return new ApiError(message, { status, code });
}

const imagePath = (id, rest = "") => `images/${encodeURIComponent(id)}${rest}`;

/** `{ label: ["Cat", "Dog"], limit: 5, status: undefined }` → `label=Cat&label=Dog&limit=5` */
function query(parameters) {
  const pairs = Object.entries(parameters).flatMap(([name, values]) =>
    [values].flat().map((value) => [name, value]),
  );
  return new URLSearchParams(pairs.filter(([, value]) => value));
}

/** Asks as whoever has signed in, and waits while nobody has. */
async function call(method, path, { body, headers, signal } = {}) {
  const credentials = await session.headers();
  const { status, ok, said } = await ask(method, path, {
    body: body && JSON.stringify(body),
    headers: {
      Accept: "application/json",
      ...(body && { "Content-Type": "application/json" }),
      ...headers,
      ...credentials,
    },
    signal,
  });
  if (ok && said) return said;
  const error = failure(status, said);
  if (await session.renew(error, credentials)) return call(method, path, { body, headers, signal });
  throw error;
}

/** An answer that breaks off half way is none. */
async function ask(method, path, options) {
  try {
    const answer = await fetch(new URL(path, ROOT), { method, cache: "no-store", ...options });
    const said = parsed(await answer.text());
    return { status: answer.status, ok: answer.ok, said };
  } catch (error) {
    throw options.signal?.aborted ? error : new ApiError(SILENT);
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Our own problems say `detail`; what API Gateway answers by itself says `message`. */
function failure(status, said) {
  const message =
    said?.detail ?? said?.message ?? `The API answered ${status}, and not as expected.`;
  return new ApiError(message, { status, code: said?.code });
}
