// One picture on its own: photograph, masks, outlines and names, and what the pointer does on it.

const SWIPE = 60;

function openPicture(picture) {
  element("photo").src = readDetails(picture).image;
  writeFileName(element("title"), picture.file);
  element("title").title = picture.name;
  document.title = `${picture.file} · langhops gallery`;
  state.hovered = state.held = null;
  fitFrame(picture);
}

/** Write a file name that may break after its marks, since it has no spaces. */
function writeFileName(place, name) {
  place.replaceChildren(...name.split(/(?<=[_.-])/).flatMap((piece) => [piece, document.createElement("wbr")]));
}

/** Make the picture as large as its place allows; a small one grows up to four times. */
function fitFrame(picture) {
  const [width, height] = picture.shown;
  const stage = element("stage");
  // Beside the tree the place has its own height; above it, on a phone, a share of the screen.
  const share = parseFloat(getComputedStyle(stage).getPropertyValue("--room"));
  const scale = Math.min(stage.clientWidth / width, (share ? share * innerHeight : stage.clientHeight) / height, 4);
  element("frame").style.width = `${Math.max(1, Math.floor(width * scale))}px`;
  element("frame").style.height = `${Math.max(1, Math.floor(height * scale))}px`;
}

/** Draw everything on the picture anew: after a switch, another score, or another part lit. */
function drawPicture(picture) {
  const masks = masksOf(picture);
  const layers = layersOf(picture, shownOf(picture), lit());
  paintShade(element("shade"), picture, masks, lit());
  paintFills(element("fills"), picture, masks, layers);
  strokeLines(element("lines"), picture, masks, layers);
  placeLabels(picture, masks, layers);
  const times = ([name, number]) => (number > 1 ? `${number} × ${name}` : name);
  const names = tally(layers.map(({ item }) => item)).map(times);
  element("frame").setAttribute("aria-label", `${picture.file}: ${names.join(", ") || "nothing shown"}`);
}

/** Light an instance, or none; rows of the tree follow. */
function light(picture, index, { hold = false } = {}) {
  if (hold) state.held = state.held === index ? null : index;
  if (!hold && state.hovered === index) return;
  state.hovered = hold ? null : index;
  drawPicture(picture);
  markRows(picture);
}

/** The smallest instance that is shown at a place on the page, parts before objects; null where there is none. */
function instanceAt(picture, event) {
  const frame = element("frame").getBoundingClientRect();
  const x = Math.floor(((event.clientX - frame.left) / frame.width) * picture.shown[0]);
  const y = Math.floor(((event.clientY - frame.top) / frame.height) * picture.shown[1]);
  const masks = masksOf(picture);
  const there = [...shownOf(picture)]
    .filter(([index, how]) => how === "whole" && covers(masks[index], x, y))
    .map(([index]) => picture.items[index]);
  const rank = (item) => (item.level === "part" ? 0 : 1);
  there.sort((one, other) => rank(one) - rank(other) || one.area - other.area);
  return there.length ? there[0].index : null;
}

function listenOnPicture() {
  const frame = element("frame");
  const current = () => pictures[state.picture];
  let start = null;
  frame.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "touch") light(current(), instanceAt(current(), event));
  });
  frame.addEventListener("pointerleave", () => light(current(), null));
  frame.addEventListener("pointerdown", (event) => {
    start = [event.clientX, event.clientY];
  });
  frame.addEventListener("pointerup", (event) => {
    if (!start) return;
    const [across, down] = [event.clientX - start[0], event.clientY - start[1]];
    start = null;
    const swiped = event.pointerType === "touch" && Math.abs(across) > SWIPE && Math.abs(down) < SWIPE;
    if (swiped) step(across < 0 ? 1 : -1);
    else if (Math.hypot(across, down) < 10) hold(current(), instanceAt(current(), event));
  });
  frame.addEventListener("pointercancel", () => {
    start = null;
  });
}

/** Keep an instance lit until it is chosen again; nothing lets go. */
function hold(picture, index) {
  if (index === null) state.held = null;
  light(picture, index, { hold: index !== null });
}
