/** How sizes, times and names are written for people. */

const UNITS = ["bytes", "kB", "MB", "GB"];
const whole = new Intl.NumberFormat();
const minute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });

export const STATUS_WORDS = {
  QUEUED: "Queued",
  PROCESSING: "Processing …",
  COMPLETED: "Completed",
  QUARANTINED: "Quarantined",
  FAILED: "Failed",
};

export const fileName = (image) => image.key.replace(/^uploads\//, "");

export const number = (value) => whole.format(value);

export const count = (amount, one, many = `${one}s`) =>
  `${number(amount)} ${amount === 1 ? one : many}`;

/** `4.2 MB`: decimal, as file managers and S3 write it. */
export function bytes(size) {
  const step = Math.min(Math.floor(Math.log10(Math.max(size, 1)) / 3), UNITS.length - 1);
  const value = size / 1000 ** step;
  const digits = step > 0 && value < 99.5 ? 1 : 0;
  return `${value.toLocaleString(undefined, { maximumFractionDigits: digits })} ${UNITS[step]}`;
}

export const size = ({ width, height }) => `${number(width)} × ${number(height)}`;

/** A time in the reader's zone; one that a camera wrote without a zone is shown as it is. */
export function moment(text) {
  const time = new Date(text);
  return Number.isNaN(time.valueOf()) ? text : minute.format(time);
}

/** `2026-01-31` as the reader writes it. */
export const day = (text) => date.format(new Date(`${text}T12:00:00`));

export const percent = (value) => `${Math.round(value)} %`;

export function shutter(seconds) {
  if (seconds >= 0.3) return `${Number(seconds.toFixed(1))} s`;
  return `1/${Math.round(1 / seconds)} s`;
}

export const quoted = (text) => `“${text}”`;

/**
 * The words of a text as one searches them, each once, without case and accents; as the API splits
 * them, but for letters that fold into others (`ß`).
 */
export const wordsOf = (text) => [...new Set(plain(text).match(/[\p{L}\p{N}]{1,64}/gu))];

const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, unaccented).toLowerCase();

/** Nothing for a mark that has a combining class: it sorts before one of the highest (Unicode, NFD). */
const unaccented = (mark) => {
  const pair = HIGHEST + mark;
  return mark === HIGHEST || pair.normalize("NFD") !== pair ? "" : mark;
};

const HIGHEST = "\u0345";

/** A label as one searches it: in whatever case, its letters composed or not. */
export const termOf = (label) => label.normalize("NFC").toLowerCase();

/** The labels as one line, surest first. */
export const labelLine = (image, most = 3) =>
  image.labels
    .slice(0, most)
    .map((label) => label.name)
    .join(", ");

/** Why an image failed, as a sentence. */
export function reasonOf({ error }) {
  const reason = error?.message ?? "It could not be processed";
  return reason[0].toUpperCase() + reason.slice(1) + (/[.!?]$/.test(reason) ? "" : ".");
}
