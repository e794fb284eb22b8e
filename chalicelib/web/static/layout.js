/** A justified layout: rows of about one height that fill the width, as in a contact sheet. */

/** Very wide or very tall pictures are cut at the sides, so that one cannot take a whole row. */
const NARROWEST = 0.5;
const WIDEST = 3;

/**
 * Where each picture goes, given the proportions of all (width / height): boxes of pixels in the
 * same order, and the height of them all. The last row keeps its height and may end early.
 */
export function justify(ratios, width, rowHeight, gap) {
  const boxes = [];
  let top = 0;
  for (const row of rowsOf(ratios, width, rowHeight, gap)) {
    let left = 0;
    for (const ratio of row.ratios) {
      boxes.push({ left, top, width: ratio * row.height, height: row.height });
      left += ratio * row.height + gap;
    }
    top += row.height + gap;
  }
  return { boxes, height: Math.max(0, top - gap) };
}

function* rowsOf(ratios, width, rowHeight, gap) {
  const fitting = (row) => (width - gap * (row.length - 1)) / total(row);
  let row = [];
  for (const ratio of ratios.map(clamped)) {
    const wider = [...row, ratio];
    const isFull = row.length > 0 && fitting(row) <= rowHeight * 1.25;
    // The row ends where its height is nearest to the one that is wanted.
    if (isFull && rowHeight - fitting(wider) > fitting(row) - rowHeight) {
      yield { ratios: row, height: fitting(row) };
      row = [ratio];
    } else row = wider;
  }
  if (row.length) yield { ratios: row, height: Math.min(fitting(row), rowHeight) };
}

const clamped = (ratio) => Math.min(Math.max(ratio, NARROWEST), WIDEST);

const total = (row) => row.reduce((sum, ratio) => sum + ratio, 0);
