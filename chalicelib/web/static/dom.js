/** Building elements. Whatever is a string becomes text, never markup. */

const SVG = "http://www.w3.org/2000/svg";

export const $ = (selector, root = document) => root.querySelector(selector);

/** `el("button", { type: "button", class: "quiet", on: { click }, style: { width } }, "Text", …)` */
export function el(tag, { on = {}, style = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  for (const [name, value] of Object.entries(style)) element.style.setProperty(name, value);
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  element.append(...present(children));
  return element;
}

/** An icon of the sprite in index.html. It says nothing to a screen reader: the words beside do. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** Text for screen readers alone. */
export const unseen = (text) => el("span", { class: "unseen" }, text);

/** A part of what is told of an image; `aside` stands beside its title. */
export const section = (title, content, aside = null) =>
  el("section", {}, el("div", { class: "section-head" }, el("h3", {}, title), aside), content);

/** Replace what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...present(children));
  return element;
}

/**
 * Run what repaints or moves the content of an element, but not while something in it is pressed:
 * released where something else stands by then, it would not be clicked.
 */
export function whenReleased(element, run) {
  if (element.matches(":active")) requestAnimationFrame(() => whenReleased(element, run));
  else run();
}

const present = (children) =>
  children.flat().filter((child) => child !== null && child !== undefined && child !== false);

function setAttribute(element, name, value) {
  if (value === true) element.setAttribute(name, "");
  else if (value !== false && value !== null && value !== undefined)
    element.setAttribute(name, value);
}
