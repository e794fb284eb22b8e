/** The REST API. Its root is found beside this file, so any stage or base path will do. */

const ROOT = new URL("../", import.meta.url);

const SILENT = "The API does not answer. Check the connection, or whether it is running.";

/** Types that API Gateway hands over as bytes; anything else is sent as a nameless stream. */
const BINARY = /^image\/(avif|bmp|gif|heic|heif|jpeg|png|tiff|webp)$/;

/** What the API said no with. Its `message` is for people, its `code` for programs. */
export class ApiError extends Error {
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

/** A page of images, newest first: `{ images, cursor }`. */
export function list({ status, labels = [], cursor, limit }) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ status, cursor, limit }))
    if (value) query.set(name, value);
  for (const label of labels) query.append("label", label);
  return call("GET", `images?${query}`);
}

export const show = (id) => call("GET", `images/${encodeURIComponent(id)}`);

export const status = (id) => call("GET", `images/${encodeURIComponent(id)}/status`);

export const remove = (id) => call("DELETE", `images/${encodeURIComponent(id)}`);

export const ingest = ({ url, name }, signal) =>
  call("POST", "images", { body: JSON.stringify({ url, ...(name && { name }) }), signal });

/** Upload a file as it is. XMLHttpRequest, since fetch tells no progress of an upload. */
export function upload({ file, name }, signal, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", new URL(`images?${new URLSearchParams({ name })}`, ROOT));
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Content-Type", contentType(file));
    request.upload.addEventListener("progress", ({ loaded, total }) => onProgress(loaded / total));
    request.addEventListener("load", () => settle(request, resolve, reject));
    request.addEventListener("error", () => reject(new ApiError(SILENT)));
    request.addEventListener("abort", () => reject(signal.reason));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

const contentType = (file) => (BINARY.test(file.type) ? file.type : "application/octet-stream");

function settle(request, resolve, reject) {
  const said = parsed(request.responseText);
  if (request.status >= 200 && request.status < 300 && said) resolve(said);
  else reject(failure(request.status, said));
}

async function call(method, path, { body, signal } = {}) {
  const headers = {
    Accept: "application/json",
    ...(body && { "Content-Type": "application/json" }),
  };
  const options = { method, headers, body, signal, cache: "no-store" };
  const answer = await fetch(new URL(path, ROOT), options).catch((error) => {
    throw signal?.aborted ? error : new ApiError(SILENT);
  });
  const said = parsed(await answer.text().catch(() => ""));
  if (!answer.ok || !said) throw failure(answer.status, said);
  return said;
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
