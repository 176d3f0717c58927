// The page as a whole: what the address says, switches, search, theme.

function render() {
  const picture = pictures[state.picture];
  element("sheet").hidden = Boolean(picture);
  element("view").hidden = !picture;
  element("steps").hidden = !picture || pictures.length < 2;
  document.body.classList.toggle("viewing", Boolean(picture));
  for (const button of document.querySelectorAll("[data-switch]")) {
    button.setAttribute("aria-pressed", String(state[button.dataset.switch]));
  }
  element("least-value").textContent = state.least.toFixed(2);
  if (!picture) return showSheet();
  const kept = searched();
  const place = kept.indexOf(picture);
  element("place").textContent = `${place < 0 ? "–" : place + 1} of ${kept.length}`;
  element("previous").disabled = !kept.some(({ number }) => number < picture.number);
  element("next").disabled = !kept.some(({ number }) => number > picture.number);
  const shown = shownOf(picture);
  for (const name of ["hovered", "held"]) if (!shown.has(state[name])) state[name] = null;
  showTree(picture);
  return drawPicture(picture);
}

/** Show what the address asks for: #picture-3, or all pictures; a single picture needs no sheet. */
function route() {
  const asked = /^#picture-(\d+)$/.exec(location.hash);
  const number = asked ? Number(asked[1]) - 1 : pictures.length === 1 ? 0 : null;
  const before = state.picture;
  state.picture = number in pictures ? number : null;
  const picture = pictures[state.picture];
  if (picture) element("view").hidden = false; // it has to have a size before the picture is fitted into it
  element("sheet").hidden = Boolean(picture);
  if (picture) openPicture(picture);
  else document.title = "langhops gallery";
  render();
  const missing = asked && !picture ? `There is no picture ${asked[1]} here. ` : "";
  const what = picture && `Picture ${picture.number + 1} of ${pictures.length}, ${element("frame").ariaLabel}`;
  element("status").textContent = missing + (what ?? "All pictures");
  if (picture && before !== state.picture) {
    scrollTo(0, 0);
    element("title").focus({ preventScroll: true });
  } else if (!picture && before !== null) document.querySelector(`.card[data-number="${before}"]`)?.focus();
  tellLimits(missing);
}

function tellLimits(missing) {
  const left = total - pictures.length;
  const shown = `The first ${pictures.length.toLocaleString("en")} of ${count(total, "picture")} are shown here`;
  say(element("notice"), missing + (left > 0 ? `${shown}; the others are in ${about.elsewhere}.` : ""));
}

function flip(name) {
  state[name] = !state[name];
  render();
}

function search(text) {
  state.query = text;
  element("search").value = text;
  render();
}

/** Change between dark and light, from what the system prefers; the browser keeps the choice where it may. */
function flipTheme() {
  const preferred = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const now = document.documentElement.dataset.theme ?? preferred;
  const wanted = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = wanted;
  try {
    localStorage.setItem("langhops-theme", wanted);
  } catch {
    // a page opened from a file may have no storage: the choice then lasts as long as the page
  }
}

function recallTheme() {
  try {
    const theme = localStorage.getItem("langhops-theme");
    if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  } catch {
    // as above
  }
}

function listen() {
  document.addEventListener("keydown", pressed);
  addEventListener("hashchange", route);
  for (const button of document.querySelectorAll("[data-switch]")) {
    button.addEventListener("click", () => flip(button.dataset.switch));
  }
  element("least").addEventListener("input", (event) => {
    state.least = Number(event.target.value);
    render();
  });
  element("search").addEventListener("input", (event) => search(event.target.value));
  element("clear").addEventListener("click", () => {
    Object.assign(state, { objects: true, parts: true, least: 0 });
    element("least").value = 0;
    search("");
  });
  element("theme").addEventListener("click", flipTheme);
  element("ask").addEventListener("click", () => element("help").showModal());
  element("help").addEventListener("click", (event) => event.target === element("help") && element("help").close());
  element("previous").addEventListener("click", () => step(-1));
  element("next").addEventListener("click", () => step(1));
  new ResizeObserver(() => {
    const picture = pictures[state.picture];
    if (!picture) return;
    fitFrame(picture);
    drawPicture(picture);
  }).observe(element("stage"));
  listenOnPicture();
}

const everything = pictures.flatMap(({ items }) => items);
const objects = everything.filter(({ level }) => level === "object").length;
const numbers = [count(total, "picture"), count(objects, "object"), count(everything.length - objects, "part")];
element("counts").textContent = numbers.join(" · ");
element("about").textContent = `Made by langhops ${about.version}. Looked for: ${about.vocabulary}`;
element("loading").remove();
recallTheme();
buildSheet();
listen();
route();
