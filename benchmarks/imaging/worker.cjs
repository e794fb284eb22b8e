// Every way of sharp, driven by the same lines of JSON as worker.py. sharp is single-threaded here
// (concurrency 1), so that CPU time is comparable and two images at once take two threads.
const { readFileSync } = require("node:fs");
const { createInterface } = require("node:readline");
const { join } = require("node:path");
const sharp = require(join(process.cwd(), ".bench/node/node_modules/sharp"));

sharp.concurrency(1);
sharp.cache(false);
const QUALITY = 80;

const shape = ([width, height, cover]) => [
  width,
  height,
  { fit: cover ? "cover" : "inside", withoutEnlargement: true },
];

// One pipeline for each rendition, as the documentation shows it.
const docs = (original, boxes, options) =>
  Promise.all(
    boxes.map((box) =>
      sharp(original).autoOrient().resize(...shape(box)).jpeg({ quality: QUALITY, ...options }).toBuffer(),
    ),
  );

// The best made by hand: each rendition from the pixels of the one before.
async function cascade(original, boxes, options, given) {
  const made = [];
  let pixels = null;
  for (const box of boxes) {
    const from = pixels ? sharp(pixels.data, { raw: pixels.info }) : sharp(original).autoOrient();
    const smaller = await from.resize(...shape(box)).raw().toBuffer({ resolveWithObject: true });
    if (given) given.push(smaller);
    made.push(
      await sharp(smaller.data, { raw: smaller.info }).jpeg({ quality: QUALITY, ...options }).toBuffer(),
    );
    if (!box[2]) pixels = smaller;
  }
  return made;
}

// The case sharp's own benchmark leads with.
const headline = (original, boxes, options) =>
  Promise.all(
    boxes.map(([width, height]) =>
      sharp(original).resize(width, height, { fastShrinkOnLoad: false }).jpeg({ quality: QUALITY, ...options }).toBuffer(),
    ),
  );

const ways = {
  sharp_docs: (original, boxes) => docs(original, boxes, {}),
  sharp_cascade: (original, boxes) => cascade(original, boxes, {}),
  sharp_cascade_baseline: (original, boxes) => cascade(original, boxes, { optimiseCoding: false }),
  sharp_headline: (original, boxes) => headline(original, boxes, {}),
};

async function measured({ way, file, boxes, threads = 1 }) {
  const original = readFileSync(file);
  const cpu = process.cpuUsage();
  const start = process.hrtime.bigint();
  const made = await Promise.all(Array.from({ length: threads }, () => ways[way](original, boxes)));
  const used = process.cpuUsage(cpu);
  return {
    cpu_ms: (used.user + used.system) / 1e3 / threads,
    wall_ms: Number(process.hrtime.bigint() - start) / 1e6 / threads,
    bytes: made[0].map((body) => body.length),
    peak_mb: process.resourceUsage().maxRSS / 2 ** 10,
  };
}

async function shown({ way, file, boxes, into }) {
  const given = [];
  if (way === "sharp_headline") {
    for (const [width, height] of boxes) {
      const pipeline = sharp(readFileSync(file)).resize(width, height, { fastShrinkOnLoad: false });
      given.push(await pipeline.raw().toBuffer({ resolveWithObject: true }));
    }
  } else await cascade(readFileSync(file), boxes, {}, given);
  for (const { data, info } of given) {
    await sharp(data, { raw: info }).png().toFile(join(into, `${way}-${info.width}x${info.height}.png`));
  }
  return { sizes: given.map(({ info }) => [info.width, info.height]) };
}

(async () => {
  for await (const line of createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    let answer;
    try {
      answer = await (asked.into ? shown(asked) : measured(asked));
    } catch (error) {
      answer = { error: String(error) };
    }
    console.log(JSON.stringify(answer));
  }
})();
