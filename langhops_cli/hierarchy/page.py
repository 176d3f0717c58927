"""The page that shows a tree in a browser: one file, no network."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>@@title@@</title>
<style>
:root { --ink: #1c2024; --paper: #fff; --faint: #6b7280; --line: #d5d9df; --hit: #ffe08a; --link: #0b6bcb }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --paper: #16181b; --faint: #9aa3ae; --line: #343a41; --hit: #6b5200; --link: #7db8ff }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper) }
h1 { margin: 0; font-size: 1.3rem; overflow-wrap: anywhere }
p { margin: .2rem 0 1rem; color: var(--faint) }
form { position: sticky; top: 0; display: flex; flex-wrap: wrap; gap: .5rem; padding: .5rem 0;
  background: var(--paper) }
input { flex: 1 1 14rem; min-width: 0 }
input, button { padding: .4rem .6rem; font: inherit; color: inherit; background: transparent;
  border: 1px solid var(--line); border-radius: .4rem }
button { cursor: pointer }
:focus-visible { outline: 2px solid var(--link); outline-offset: 1px }
ul { list-style: none; margin: 0; padding-left: 1.4rem; border-left: 1px solid var(--line) }
#tree { padding: 0; border: 0 }
#tree > li { margin: .15rem 0; font-weight: 600 }
#tree > li ul { font-weight: 400 }
summary { cursor: pointer }
span { overflow-wrap: anywhere }
small { color: var(--faint); font-weight: 400 }
.hit > span, .hit > details > summary > span { background: var(--hit); border-radius: .2rem }
[hidden] { display: none }
</style>
</head>
<body>
<h1>@@title@@</h1>
<p id="counts" aria-live="polite">@@counts@@</p>
<form role="search">
<input id="search" type="search" placeholder="Search names" aria-label="Search names" autocomplete="off">
<button type="button" id="open">Unfold all</button>
<button type="button" id="close">Fold all</button>
</form>
<ul id="tree">
@@tree@@
</ul>
<script>
"use strict";
const items = [...document.querySelectorAll("#tree li")];
const folds = [...document.querySelectorAll("#tree details")];
const counts = document.getElementById("counts"), size = counts.textContent;
const search = document.getElementById("search");
const name = item => item.querySelector("span").textContent.toLowerCase();
const names = items.map(name);
let before = null;
function find() {
  const wanted = search.value.trim().toLowerCase();
  if (wanted && !before) before = folds.map(fold => fold.open);
  const hits = new Set(items.filter((item, place) => wanted && names[place].includes(wanted)));
  const shown = new Set();
  for (const hit of hits) {
    for (let item = hit; item; item = item.parentElement.closest("li")) shown.add(item);
    hit.querySelectorAll("li").forEach(inner => shown.add(inner));
  }
  for (const item of items) {
    item.hidden = wanted !== "" && !shown.has(item);
    item.classList.toggle("hit", hits.has(item));
  }
  folds.forEach((fold, place) => {
    if (wanted) fold.open = [...fold.querySelectorAll("li")].some(item => hits.has(item));
    else if (before) fold.open = before[place];
  });
  if (!wanted) before = null;
  counts.textContent = wanted ? `${hits.size} of ${items.length} names hold "${search.value.trim()}"` : size;
}
search.addEventListener("input", find);
document.querySelector("form").addEventListener("submit", event => event.preventDefault());
document.getElementById("open").addEventListener("click", () => folds.forEach(fold => { fold.open = true }));
document.getElementById("close").addEventListener("click", () => folds.forEach(fold => { fold.open = false }));
document.addEventListener("keydown", event => {
  if (event.key === "/" && event.target !== search) { event.preventDefault(); search.focus() }
  if (event.key === "Escape") { search.value = ""; find() }
});
</script>
</body>
</html>
"""
"""With places for @@title@@, @@counts@@ and @@tree@@, which are filled with escaped text."""
