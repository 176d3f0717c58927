"use strict";
// A press on a column's title sorts its table: figures from the largest down, words from A to Z; again turns it round.
for (const table of document.querySelectorAll("table.sortable")) {
  const titles = [...table.tHead.rows[0].cells];
  titles.forEach((title, column) => title.querySelector("button").addEventListener("click", () => {
    const body = table.tBodies[0];
    const figures = title.classList.contains("figure");
    const first = figures ? "descending" : "ascending";
    const second = figures ? "ascending" : "descending";
    const order = title.getAttribute("aria-sort") === first ? second : first;
    const sign = order === "ascending" ? 1 : -1;
    const value = row => row.cells[column].textContent.trim();
    const number = row => Number.parseFloat(value(row).replaceAll(",", ""));
    const compare = (a, b) => {
      if (!figures) return sign * value(a).localeCompare(value(b));
      const [x, y] = [number(a), number(b)];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return sign * (x - y);
    };
    titles.forEach(other => other.removeAttribute("aria-sort"));
    title.setAttribute("aria-sort", order);
    body.append(...[...body.rows].sort(compare));
  }));
}
