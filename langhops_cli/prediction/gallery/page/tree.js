// The tree of parts beside the picture.

function showTree(picture) {
  const shown = shownOf(picture);
  const tree = element("tree");
  const focused = tree.contains(document.activeElement) ? document.activeElement.id : null;
  tree.replaceChildren();
  const grow = (indices, depth) => {
    const listed = indices.filter((index) => shown.has(index));
    listed.forEach((index, place) => {
      const item = picture.items[index];
      tree.append(rowOf(picture, item, { depth, place, siblings: listed.length, faint: shown.get(index) === "frame" }));
      grow(item.children, depth + 1);
    });
  };
  grow(picture.roots, 0);
  tree.hidden = !shown.size;
  if (tree.firstElementChild) tree.firstElementChild.tabIndex = 0;
  if (focused && element(focused)) focusRow(element(focused));
  describePicture(picture, shown);
  markRows(picture);
}

function rowOf(picture, item, { depth, place, siblings, faint }) {
  const row = make("div", `row ${item.level}${faint ? " faint" : ""}`);
  row.id = `row-${item.index}`;
  row.tabIndex = -1;
  const marks = { role: "treeitem", "aria-level": depth + 1, "aria-setsize": siblings, "aria-posinset": place + 1 };
  for (const [name, value] of Object.entries(marks)) row.setAttribute(name, value);
  row.style.setProperty("--depth", depth);
  row.style.setProperty("--colour", css(item.colour));
  row.append(make("span", "dot"), make("span", "row-name", item.name));
  if (state.scores) {
    const bar = make("span", "bar");
    bar.append(make("i", ""));
    bar.firstElementChild.style.width = `${item.score * 100}%`;
    row.append(bar, make("span", "score", item.score.toFixed(2)));
  }
  row.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && light(picture, item.index));
  row.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && light(picture, null));
  row.addEventListener("focus", () => row.matches(":focus-visible") && light(picture, item.index));
  row.addEventListener("blur", () => light(picture, null));
  row.addEventListener("click", () => {
    focusRow(row);
    hold(picture, item.index);
  });
  return row;
}

/** Show in the rows what is lit and what is held. */
function markRows(picture) {
  const line = lit() === null ? [] : [lit(), ...above(picture, lit())];
  for (const row of element("tree").children) {
    const index = Number(row.id.slice(4));
    row.classList.toggle("lit", index === lit());
    row.classList.toggle("over", line.includes(index) && index !== lit());
    row.setAttribute("aria-selected", String(index === state.held));
    if (index === lit() && !row.matches(":hover")) row.scrollIntoView({ block: "nearest" });
  }
}

function focusRow(row) {
  for (const other of element("tree").children) other.tabIndex = other === row ? 0 : -1;
  row.focus();
}

/** Walk the tree by the keyboard; from elsewhere it starts at what is lit. */
function walkTree(by) {
  const rows = [...element("tree").children];
  if (!rows.length) return;
  const at = rows.findIndex((row) => row === document.activeElement || row.classList.contains("lit"));
  const to = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.max(0, Math.min(rows.length - 1, at + by));
  focusRow(rows[to]);
  light(pictures[state.picture], Number(rows[to].id.slice(4)));
}

function describePicture(picture, shown) {
  const whole = picture.items.filter(({ index }) => shown.get(index) === "whole");
  const objects = whole.filter(({ level }) => level === "object").length;
  const facts = [count(objects, "object"), count(whole.length - objects, "part"), `${picture.size.join(" × ")} px`];
  element("facts").textContent = facts.join(" · ");
  const empty = element("empty");
  empty.hidden = shown.size > 0;
  empty.textContent = !picture.items.length
    ? "Nothing was found in this picture. A lower --min-score may show more, and so may other words for it."
    : "Everything that was found here is hidden by the switches, the score or the search.";
  say(element("hidden"), hiddenBelow(picture));
  say(element("missing"), notFound(picture));
}

function say(remark, text) {
  remark.hidden = !text;
  remark.textContent = text;
}

function hiddenBelow(picture) {
  const tooLow = (index) => picture.items[index].score < state.least;
  const low = picture.items.filter(({ index }) => [index, ...above(picture, index)].some(tooLow));
  return low.length ? `${low.length.toLocaleString("en")} hidden with a score below ${state.least.toFixed(2)}.` : "";
}

/** Names that were looked for and are not in this picture: objects, and parts of objects that are. */
function notFound(picture) {
  const key = (path) => JSON.stringify(path);
  const found = new Set(picture.items.map(({ path }) => key(path)));
  const expected = (path) => path.length === 1 || found.has(key(path.slice(0, -1)));
  const missing = about.categories.filter(({ path }) => !found.has(key(path)) && expected(path));
  const named = missing.slice(0, 12).map(({ title }) => title).join(", ");
  const more = missing.length - 12;
  const rest = more > 0 ? ` and ${more.toLocaleString("en")} more` : "";
  return missing.length ? `Looked for and not found: ${named}${rest}.` : "";
}
