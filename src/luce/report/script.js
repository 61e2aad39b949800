"use strict";
// A click on a heading sorts its table; a second click turns the order round.
const number = (text) => (/^[-+]?[\d,]*\.?\d+%?$/.test(text) ? parseFloat(text.replace(/,/g, "")) : NaN);

function compare(a, b) {
  const x = number(a), y = number(b);
  if (isNaN(x) || isNaN(y)) return a.localeCompare(b, undefined, { numeric: true });
  return x - y;
}

for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const ascending = heading.getAttribute("aria-sort") !== "ascending";
      const sign = ascending ? 1 : -1;
      const body = table.tBodies[0];
      const text = (row) => row.cells[column].textContent.trim();
      const rows = [...body.rows].sort((a, b) => sign * compare(text(a), text(b)));
      body.append(...rows);
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    });
  });
}
