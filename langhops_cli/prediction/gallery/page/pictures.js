// What the file holds, what is switched on, and what of a picture is shown by that.

const element = (id) => document.getElementById(id);
const stored = (kind) => [...document.querySelectorAll(`script.${kind}`)];
const about = JSON.parse(stored("about")[0].textContent);
const total = JSON.parse(stored("totals")[0].textContent).pictures;
const detailScripts = stored("details");
const pictures = stored("summary").map((script, number) => pictureOf(JSON.parse(script.textContent), number));

const state = {
  objects: true,
  parts: true,
  fill: true,
  outlines: true,
  names: true,
  scores: true,
  least: 0,
  query: "",
  picture: null, // number of the picture on its own, null for the contact sheet
  hovered: null, // index of an instance
  held: null,
};
const lit = () => state.hovered ?? state.held;

function pictureOf(summary, number) {
  const items = summary.found.map(([category, score, parent, area], index) => {
    const { path, title, colour, ink } = about.categories[category];
    const level = parent === null ? "object" : "part";
    const known = plain(path.join(" "));
    return { index, name: path.at(-1), title, path, known, colour, ink, score, parent, area, level, children: [] };
  });
  const order = [...items].sort((one, other) => other.score - one.score);
  for (const { index, parent } of order) if (parent !== null) items[parent].children.push(index);
  const roots = order.filter(({ parent }) => parent === null).map(({ index }) => index);
  const file = summary.name.split(/[\\/]/).at(-1) || summary.name;
  return { ...summary, number, file, known: plain(file), items, roots };
}

const decoded = new Map(); // a few pictures' masks, the least recently used first
const MOST_DECODED = 32;

/** Masks of a picture in the order of its items. */
function masksOf(picture) {
  const read = () => readDetails(picture).masks.map((text) => decodeMask(text, picture.shown[1]));
  const masks = decoded.get(picture.number) ?? read();
  decoded.delete(picture.number);
  decoded.set(picture.number, masks);
  if (decoded.size > MOST_DECODED) decoded.delete(decoded.keys().next().value);
  return masks;
}

function readDetails(picture) {
  return JSON.parse(detailScripts[picture.number].textContent);
}

/** Indices of the instances that one belongs to, the nearest first; none for null. */
function above(picture, index) {
  const found = [];
  for (let at = picture.items[index]?.parent ?? null; at !== null; at = picture.items[at].parent) found.push(at);
  return found;
}

/** Indices of everything that belongs to an instance. */
function below(picture, index) {
  return picture.items[index].children.flatMap((child) => [child, ...below(picture, child)]);
}

/** Text as it is compared: without case, accents and doubled spaces. */
function plain(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase().replace(/\s+/g, " ").trim();
}

/** A test of plain texts against the search: every word of it is in them. */
function searchTest() {
  const words = plain(state.query).split(" ");
  return ({ known }) => words.every((word) => known.includes(word));
}

/**
 * What is shown of a picture: index -> "whole", or "frame" for what only holds something that is shown.
 *
 * A part goes with what it belongs to when that scores too little; a picture of which only the file's
 * name fits shows everything.
 */
function shownOf(picture) {
  const shown = new Map();
  const fits = searchTest();
  const fitting = new Set(picture.items.filter(fits));
  const all = !fitting.size && fits(picture);
  const visit = (index) => {
    const item = picture.items[index];
    if (item.score < state.least) return false;
    const inside = item.children.map(visit).some(Boolean);
    const whole = state[`${item.level}s`] && (all || fitting.has(item));
    if (whole || inside) shown.set(index, whole ? "whole" : "frame");
    return whole || inside;
  };
  picture.roots.forEach(visit);
  return shown;
}

/** The pictures that a search leaves, all without one. */
function searched() {
  return state.query ? pictures.filter((picture) => searchTest()(picture) || shownOf(picture).size) : pictures;
}

/** How often each name occurs among instances: [[name, number], ...], the most frequent first. */
function tally(items) {
  const numbers = new Map();
  for (const { name } of items) numbers.set(name, (numbers.get(name) ?? 0) + 1);
  return [...numbers].sort((one, other) => other[1] - one[1]);
}

function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

/** A new element with a class and a text; names come in as text only, never as markup. */
function make(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
