"use strict";
// Tables whose columns can be sorted by their headings.

/** What a cell is sorted by: its number, or its text. */
function sortValue(cell) {
  if (!cell) return null;
  if (cell.dataset.values) return JSON.parse(cell.dataset.values).mean;
  return cell.classList.contains("none") ? null : textOf(cell);
}

/** Numbers by size, texts by letters; what is missing comes last in either direction. */
function compareValues(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (isNumber(a) && isNumber(b)) return direction * (a - b);
  return direction * String(a).localeCompare(String(b), "en", { numeric: true });
}

function sortTable(table, column, direction) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [sortValue(row.cells[column]), row]);
  rows.sort(([a], [b]) => compareValues(a, b, direction));
  body.append(...rows.map(([, row]) => row));
  [...table.tHead.rows[0].cells].forEach((cell, i) => {
    if (i === column) cell.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    else cell.removeAttribute("aria-sort");
  });
}

/** Headings of `table.sortable` become buttons; the first press puts the best or the most first. */
function equipSorting() {
  for (const table of document.querySelectorAll("table.sortable")) equipSortable(table);
}

function equipSortable(table) {
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    if (!cell.textContent.trim()) return;
    const by = html("button", "by");
    by.type = "button";
    by.append(...cell.childNodes);
    cell.append(by);
    by.addEventListener("click", () => {
      const before = cell.getAttribute("aria-sort");
      const first = sortValue([...table.tBodies[0].rows].map((row) => row.cells[column]).find((one) => sortValue(one) !== null));
      const isUp = !isNumber(first) || cell.dataset.better === "low" || textOf(cell) === "Rank" || /(^|\W)p$/i.test(textOf(cell));
      const usual = isUp ? 1 : -1;
      sortTable(table, column, before === (usual > 0 ? "ascending" : "descending") ? -usual : usual);
    });
  });
}
