// The keyboard.

const SWITCHES = { o: "objects", p: "parts", f: "fill", l: "outlines", n: "names", s: "scores" };

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || element("help").open) return;
  if (event.key === "Escape") return leave();
  if (event.target.id === "search") {
    if (event.key === "Enter") openFirst();
    return;
  }
  if (event.target.id === "least" && event.key.length > 1) return; // arrows move the slider
  const action = actionFor(event.key, event.target);
  if (!action) return;
  event.preventDefault();
  action();
}

function actionFor(key, target) {
  const name = SWITCHES[key.toLowerCase()];
  if (name) return () => flip(name);
  const everywhere = {
    "/": () => element("search").select(),
    "?": () => element("help").showModal(),
    t: flipTheme,
    T: flipTheme,
    ArrowLeft: () => (state.picture === null ? stepCard(-1) : step(-1)),
    ArrowRight: () => (state.picture === null ? stepCard(1) : step(1)),
  };
  if (everywhere[key]) return everywhere[key];
  if (state.picture === null) return null;
  const inTree = target.matches("[role=treeitem]");
  const walks = { ArrowDown: 1, ArrowUp: -1, ...(inTree ? { Home: -Infinity, End: Infinity } : {}) };
  if (key in walks) return () => walkTree(walks[key]);
  return inTree && (key === "Enter" || key === " ") ? () => target.click() : null;
}

/** One step back: let go, clear the search, then all pictures. */
function leave() {
  const picture = pictures[state.picture];
  if (picture && lit() !== null) {
    state.hovered = state.held = null;
    drawPicture(picture);
    markRows(picture);
  } else if (state.query) search("");
  else if (document.activeElement?.id === "search") document.activeElement.blur();
  else if (picture && pictures.length > 1) location.hash = "#sheet";
}

function openFirst() {
  const [first] = searched();
  if (state.picture === null && first) location.hash = `#picture-${first.number + 1}`;
  element("search").blur();
}

/** Go to the next or previous of the pictures that the search leaves. */
function step(by) {
  const kept = searched().filter(({ number }) => (by > 0 ? number > state.picture : number < state.picture));
  const to = kept.at(by > 0 ? 0 : -1);
  if (to) location.replace(`#picture-${to.number + 1}`);
}

function stepCard(by) {
  const cards = [...document.querySelectorAll("li:not([hidden]) > .card")];
  const at = cards.indexOf(document.activeElement);
  cards[at < 0 ? 0 : Math.max(0, Math.min(cards.length - 1, at + by))]?.focus();
}
