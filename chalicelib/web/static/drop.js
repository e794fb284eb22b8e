/** Files that are dropped on the page, folders with all that is in them included. */

import { $ } from "./dom.js";

/** What file managers leave in folders, besides files with a dot. */
const SYSTEM = ["thumbs.db", "desktop.ini"];

export function onDrop(receive) {
  const veil = $("#veil");
  let depth = 0;
  const show = (change) => {
    depth = change === 0 ? 0 : Math.max(0, depth + change);
    veil.hidden = depth === 0;
  };
  const ours = (handle) => (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    handle(event);
  };
  addEventListener(
    "dragenter",
    ours(() => show(1)),
  );
  addEventListener(
    "dragleave",
    ours(() => show(-1)),
  );
  addEventListener(
    "dragover",
    ours((event) => (event.dataTransfer.dropEffect = "copy")),
  );
  addEventListener(
    "drop",
    ours((event) => {
      show(0);
      filesIn(event.dataTransfer).then(receive);
    }),
  );
}

/** Entries have to be taken from the event before anything is awaited. */
async function filesIn(transfer) {
  const entries = [...transfer.items]
    .map((dropped) => dropped.webkitGetAsEntry?.())
    .filter(Boolean);
  const files = entries.length ? await allBelow(entries) : [...transfer.files];
  return files.filter(({ name }) => !name.startsWith(".") && !SYSTEM.includes(name.toLowerCase()));
}

/** What can be read of it. */
async function allBelow(entries) {
  const found = await Promise.allSettled(entries.map(filesBelow));
  return found.flatMap(({ value = [] }) => value);
}

async function filesBelow(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const files = [];
  const reader = entry.createReader();
  const batch = () =>
    new Promise((resolve, reject) => reader.readEntries(resolve, reject)).catch(() => []);
  for (let entries = await batch(); entries.length; entries = await batch())
    files.push(...(await allBelow(entries)));
  return files;
}
