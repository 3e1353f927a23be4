"use strict";
// Tables of thousands of cells, whose rows become part of the page when they are first opened.

/** Rows in the `template` of a `details.long` cost no layout until then. */
function equipLongTables() {
  for (const details of document.querySelectorAll("details.long")) {
    const waiting = details.querySelector("tbody > template");
    details.addEventListener("toggle", () => waiting.replaceWith(waiting.content), { once: true });
  }
}
