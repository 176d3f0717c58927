// The contact sheet: every picture small, with its masks and what was found.

const MOST_NAMES = 24;
const waiting = new Set(); // cards in sight whose masks are to be drawn
const inSight = new Set();
let drawing = false;

const watcher = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) inSight.add(target);
      else inSight.delete(target);
      if (isIntersecting && target.dataset.stale) ask(target);
    }
  },
  { rootMargin: "200px" },
);

function buildSheet() {
  for (const picture of pictures) {
    const card = make("a", "card");
    card.href = `#picture-${picture.number + 1}`;
    card.dataset.number = picture.number;
    const thumb = make("span", "thumb");
    const image = make("img", "");
    image.src = picture.thumbnail;
    image.alt = "";
    image.decoding = "async";
    thumb.append(image, make("canvas", ""));
    card.append(thumb, make("span", "card-name", picture.file), make("span", "card-found"));
    card.title = picture.name;
    const place = make("li", "");
    place.append(card);
    element("cards").append(place);
    watcher.observe(card);
  }
  const names = tally(pictures.flatMap((picture) => picture.items));
  for (const [name, number] of names.slice(0, MOST_NAMES)) element("legend").append(legendButton(name, number));
  if (names.length > MOST_NAMES) {
    element("legend").append(make("span", "remark", `and ${count(names.length - MOST_NAMES, "further name")}`));
  }
  for (const [name] of names) element("names").append(new Option(name, name));
}

function legendButton(name, number) {
  const button = make("button", "name");
  button.type = "button";
  button.append(dot(colourOf(name)), make("span", "", name), make("span", "number", number.toLocaleString("en")));
  button.addEventListener("click", () => search(plain(state.query) === plain(name) ? "" : name));
  button.dataset.name = name;
  return button;
}

function colourOf(name) {
  return about.categories.find(({ path }) => path.at(-1) === name).colour;
}

function dot(colour) {
  const made = make("span", "dot");
  made.style.setProperty("--colour", css(colour));
  return made;
}

function showSheet() {
  const kept = new Set(searched().map(({ number }) => number));
  for (const card of document.querySelectorAll(".card")) {
    const picture = pictures[card.dataset.number];
    card.parentElement.hidden = !kept.has(picture.number);
    if (kept.has(picture.number)) describeCard(card, picture);
    card.dataset.stale = "1";
    if (inSight.has(card)) ask(card);
  }
  for (const button of document.querySelectorAll("#legend button")) {
    button.setAttribute("aria-pressed", String(plain(state.query) === plain(button.dataset.name)));
  }
  const least = state.least > 0 ? ` at a score from ${state.least.toFixed(2)}` : "";
  const none = `No picture here shows “${state.query.trim()}”${least}.`;
  element("nothing").hidden = kept.size > 0;
  element("clear").hidden = pictures.length === 0;
  element("nothing").firstElementChild.textContent = pictures.length ? none : "There are no pictures in this gallery.";
}

function describeCard(card, picture) {
  const shown = shownOf(picture);
  const items = picture.items.filter(({ index }) => shown.get(index) === "whole");
  const found = card.querySelector(".card-found");
  found.replaceChildren();
  const times = ([name, number]) => (number > 1 ? `${name} ×${number}` : name);
  for (const entry of tally(items.filter(({ level }) => level === "object"))) {
    const chip = make("span", "chip");
    chip.append(dot(colourOf(entry[0])), make("span", "", times(entry)));
    found.append(chip);
  }
  const parts = tally(items.filter(({ level }) => level === "part")).map(times).join(", ");
  if (parts) found.append(make("span", "card-parts", parts));
  const none = picture.items.length ? "nothing at these settings" : "nothing found";
  if (!items.length) found.append(make("span", "card-parts", none));
}

/** Have a card's masks drawn; one card a frame, so that the page stays quick. */
function ask(card) {
  waiting.add(card);
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(drawNext);
}

function drawNext() {
  const [card] = waiting;
  waiting.delete(card);
  if (card && inSight.has(card) && !card.parentElement.hidden) {
    const picture = pictures[card.dataset.number];
    paintThumbnail(card.querySelector("canvas"), picture, masksOf(picture), layersOf(picture, shownOf(picture), null));
    delete card.dataset.stale;
  }
  drawing = waiting.size > 0;
  if (drawing) requestAnimationFrame(drawNext);
}
