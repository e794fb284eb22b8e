/** The API's description for people: `openapi.json` from beside this page, and nothing else. */

import { $, el, fill, unseen } from "./dom.js";
import { anchorOf, exampleOf, limitsOf, rowsOf, typeOf } from "./schema.js";

const ROOT = new URL("../", import.meta.url);
const METHODS = ["get", "post", "put", "patch", "delete"];

/** How curl says who asks, by kind of security scheme. */
const CREDENTIALS = {
  apiKey: ({ name }) => ["-H", `${name}: …`],
  http: () => ["-H", "Authorization: Bearer …"],
  signature: () => ["--aws-sigv4", "aws:amz:us-east-1:execute-api", "--user", "KEY_ID:SECRET"],
};

let api = null;

async function open() {
  const answer = await fetch(new URL("openapi.json", ROOT)).catch(() => null);
  if (!answer?.ok) {
    $("#error").textContent = "openapi.json cannot be loaded: the API does not answer as expected.";
    $("#error").hidden = false;
    return;
  }
  api = await answer.json();
  show();
  seek(); // what the address points at was not there yet when the browser looked for it
}

function show() {
  const groups = [...operationsByTag().map(tagGroup), schemaGroup()].filter(
    (group) => group.entries.length,
  );
  document.title = `${api.info.title}: API documentation`;
  $("#title").textContent = `${api.info.title} API`;
  $("#version").textContent = `Version ${api.info.version}`;
  fill($("#about"), prose(api.info.description), Object.entries(schemes()).map(scheme));
  fill($("#contents"), groups.map(contents));
  fill(
    $("#operations"),
    groups.map(({ title, entries }) =>
      el(
        "section",
        {},
        el("h2", {}, title),
        entries.map((entry) => entry.article),
      ),
    ),
  );
  const entries = groups.flatMap((group) => group.entries);
  $("#filter").addEventListener("input", () => filter(entries));
  if ($("#filter").value) filter(entries); // typed before there was anything to filter
}

// ── operations ───────────────────────────────────────────────────────────────────────────────────

function operationsByTag() {
  const all = Object.entries(api.paths).flatMap(([path, methods]) =>
    METHODS.filter((method) => method in methods).map((method) => {
      const operation = methods[method];
      const parameters = [...(methods.parameters ?? []), ...(operation.parameters ?? [])];
      return { ...operation, parameters, path, method: method.toUpperCase() };
    }),
  );
  const named = (api.tags ?? []).map(({ name }) => name);
  const tags = new Set([...named, ...all.map(tagOf)]);
  return [...tags].map((tag) => [tag, all.filter((operation) => tagOf(operation) === tag)]);
}

const tagOf = (operation) => operation.tags?.[0] ?? "Other";

const tagGroup = ([title, operations]) => ({
  title,
  entries: operations.map((operation) => ({
    id: operation.operationId,
    label: [badge(operation.method), el("span", {}, operation.summary)],
    article: article(operation),
  })),
});

const badge = (method) =>
  el("span", { class: "method", "data-method": method }, method === "DELETE" ? "DEL" : method);

function article(operation) {
  const { operationId, method, path, summary, description, parameters } = operation;
  return el(
    "article",
    { id: operationId },
    el("h3", {}, summary, permalink(operationId, summary)),
    el("p", { class: "route" }, badge(method), el("code", {}, path)),
    prose(description),
    isOpen(operation) && el("p", { class: "hint" }, "Open to everybody."),
    part(
      "Parameters",
      parameters.length > 0 && table(parameters.map(parameterRow), ["Name", "In", "Type", "About"]),
    ),
    part("Body", bodies(operation).map(body)),
    part("Answers", Object.entries(operation.responses).map(response)),
    part("With curl", curls(operation).map(copyable)),
  );
}

const isOpen = (operation) => operation.security?.length === 0 && api.security?.length > 0;

function part(title, content) {
  const isEmpty = !content || content.length === 0;
  return isEmpty ? null : el("div", { class: "part" }, el("h4", {}, title), content);
}

const parameterRow = ({ name, in: where, schema, required, description }) => ({
  name,
  where,
  schema,
  isRequired: required,
  text: description,
});

/** Bodies of one schema belong together, however many content types they come in. */
function bodies({ requestBody }) {
  const bySchema = new Map();
  for (const [type, { schema, example }] of Object.entries(requestBody?.content ?? {})) {
    const key = JSON.stringify(schema);
    if (!bySchema.has(key)) bySchema.set(key, { types: [], schema, example });
    bySchema.get(key).types.push(type);
  }
  return [...bySchema.values()];
}

const body = ({ types, schema, example }) =>
  el(
    "div",
    { class: "body" },
    el("p", {}, listed(types)),
    schema.properties
      ? table(rowsOf(schema), ["Name", "Type", "About"])
      : el("p", {}, typeOf(schema)),
    example && fold("Example", code(JSON.stringify(example, null, 2))),
  );

const listed = (types) => types.flatMap((type, index) => [index > 0 && ", ", el("code", {}, type)]);

function response([status, { description, content = {} }]) {
  const [[type, { schema = {}, examples = {} }] = [null, {}]] = Object.entries(content);
  const codes = Object.keys(examples);
  const isJson = type?.endsWith("json") && codes.length === 0 && Object.keys(schema).length > 0;
  return el(
    "div",
    { class: "response" },
    el("span", { class: "status", "data-class": status[0] }, status),
    el(
      "div",
      {},
      el("div", {}, inline(description), schema.$ref && [": ", ...typeOf(schema)]),
      type && !schema.$ref && el("p", {}, el("code", {}, type)),
      isJson && status < 300 && fold("Example", code(shown(exampleOf(schema, schemas())))),
    ),
  );
}

const schemas = () => api.components?.schemas ?? {};

const schemes = () => api.components?.securitySchemes ?? {};

const scheme = ([, { in: where, name, scheme: kind, description }]) =>
  el(
    "p",
    {},
    "Callers send ",
    el("code", {}, name ?? `Authorization: ${kind[0].toUpperCase()}${kind.slice(1)} …`),
    ` in the ${where ?? "header"}`,
    description ? [": ", inline(description.replace(/^The /, "the "))].flat() : ".",
  );

const shown = (value) => JSON.stringify(value, null, 2);

// ── types ────────────────────────────────────────────────────────────────────────────────────────

const schemaGroup = () => ({
  title: "Types",
  entries: Object.entries(schemas()).map(([name, schema]) => ({
    id: anchorOf(name),
    label: [el("code", {}, name)],
    article: el(
      "article",
      { id: anchorOf(name) },
      el("h3", {}, el("code", {}, name), permalink(anchorOf(name), name)),
      prose(schema.description),
      schema.properties
        ? table(rowsOf(schema), ["Name", "Type", "About"])
        : el("p", {}, typeOf(schema)),
    ),
  })),
});

function table(rows, heads) {
  const head = heads.map((text) => el("th", { scope: "col" }, text));
  return el(
    "div",
    { class: "scroll", tabindex: 0, role: "group", "aria-label": heads.join(", ") },
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, head)),
      el(
        "tbody",
        {},
        rows.map((row) => tableRow(row)),
      ),
    ),
  );
}

function tableRow({ name, where, schema, isRequired, text }) {
  const limits = limitsOf(schema);
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("code", {}, name), isRequired && el("em", {}, "required")),
    where && el("td", {}, where),
    el("td", {}, typeOf(schema)),
    el(
      "td",
      {},
      inline(text ?? ""),
      limits.length > 0 && el("p", { class: "hint" }, limits.join(" · ")),
    ),
  );
}

// ── curl ─────────────────────────────────────────────────────────────────────────────────────────

/** A command for each kind of body, or one where there is none. */
function curls(operation) {
  const ways = bodies(operation).map(({ types, schema, example }) =>
    carried(types, schema, example),
  );
  return (ways.length ? ways : [[]]).map((way) => command(operation, way));
}

function carried(types, schema, example) {
  if (types.includes("application/json"))
    return ["--json", JSON.stringify(example ?? exampleOf(schema, schemas()))];
  if (types.includes("multipart/form-data")) return ["-F", "file=@cat.jpg"];
  return ["-H", `Content-Type: ${types.find((type) => type.endsWith("jpeg")) ?? types[0]}`].concat(
    "--data-binary",
    "@cat.jpg",
  );
}

function command({ method, path, parameters, ...operation }, carries) {
  const filled = path.replace(/\{(\w+)\}/g, (whole, name) => {
    const found = parameters.find(
      (parameter) => parameter.in === "path" && parameter.name === name,
    );
    return encodeURIComponent(found?.example ?? name);
  });
  const query = new URLSearchParams(
    parameters
      .filter((parameter) => parameter.in === "query" && parameter.required)
      .map(({ name, schema, example }) => [name, example ?? exampleOf(schema, schemas())]),
  );
  const url = new URL(filled.replace(/^\//, ""), ROOT);
  url.search = query;
  const isImplied = method === "GET" || (method === "POST" && carries.length > 0);
  const words = [
    ...(isImplied ? [] : ["-X", method]),
    ...(operation.security?.length === 0 ? [] : credentials()),
    ...carries,
    url.href,
  ];
  return `curl ${words.map(quoted).join(" ")}`;
}

function credentials() {
  const [name] = Object.keys(api.security?.[0] ?? {});
  const asked = schemes()[name];
  if (!asked) return [];
  const kind = "x-amazon-apigateway-authtype" in asked ? "signature" : asked.type;
  return CREDENTIALS[kind]?.(asked) ?? [];
}

const quoted = (word) => (/^[\w@./:=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

function copyable(text) {
  const copy = async ({ currentTarget: button }) => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => fill(button, "Copy"), 1500);
  };
  return el(
    "div",
    { class: "copyable" },
    code(text),
    el("button", { type: "button", class: "small", on: { click: copy } }, "Copy"),
  );
}

// ── words ────────────────────────────────────────────────────────────────────────────────────────

const code = (text) =>
  el("pre", { tabindex: 0, role: "group", "aria-label": "Example" }, el("code", {}, text));

const fold = (title, content) => el("details", {}, el("summary", {}, title), content);

/** Paragraphs between empty lines. */
const prose = (text) =>
  (text ?? "")
    .split(/\n\s*\n/)
    .filter((paragraph) => paragraph.trim())
    .map((paragraph) => el("p", {}, inline(paragraph)));

/** Of CommonMark, `code` alone: descriptions use no more. */
const inline = (text) =>
  text.split("`").map((piece, index) => (index % 2 ? el("code", {}, piece) : piece));

const permalink = (id, title) =>
  el(
    "a",
    { class: "permalink", href: `#${id}` },
    el("span", { "aria-hidden": "true" }, "#"),
    unseen(`Link to ${title}`),
  );

const contents = ({ title, entries }) =>
  el(
    "section",
    {},
    el("h2", {}, title),
    el(
      "ul",
      {},
      entries.map(({ id, label }) =>
        el("li", {}, el("a", { href: `#${id}`, "data-id": id }, label)),
      ),
    ),
  );

// ── the filter ───────────────────────────────────────────────────────────────────────────────────

/** What has all the words is left, wherever they stand. */
function filter(entries) {
  const words = $("#filter").value.toLowerCase().split(/\s+/);
  const isFound = ({ article }) => {
    const text = article.textContent.toLowerCase();
    return words.every((word) => text.includes(word));
  };
  let found = 0;
  for (const entry of entries) {
    const isShown = isFound(entry);
    found += isShown;
    entry.article.hidden = !isShown;
    $(`#contents [data-id="${CSS.escape(entry.id)}"]`).parentElement.hidden = !isShown;
  }
  for (const section of document.querySelectorAll("#contents section, #operations section"))
    section.hidden = !$("li:not([hidden]), article:not([hidden])", section);
  $("#nothing").hidden = found > 0;
  $("#found").textContent = `${found} found`;
}

/** A link leads to where it says, whatever the filter has hidden. */
addEventListener("click", ({ target }) => {
  const link = target.closest?.('a[href^="#"]');
  if (link) uncover(link.hash);
});
addEventListener("hashchange", seek);

function seek() {
  uncover(location.hash)?.scrollIntoView();
}

function uncover(hash) {
  const id = decodeURIComponent(hash.slice(1));
  const target = id ? document.getElementById(id) : null;
  for (let hidden; (hidden = target?.closest("[hidden]")); ) hidden.hidden = false;
  return target;
}

addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest?.("input") || event.ctrlKey || event.metaKey)
    return;
  event.preventDefault();
  $("#filter").focus();
});

open();
