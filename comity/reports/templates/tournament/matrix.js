"use strict";
// The cross-play matrix: sortable, coloured, walked with arrow keys; a cell opens its pair.

const WIDE = 8;
/** Up to so many players a cell has room for both ends of its interval. */

/** Fills the matrix; `openPair(row, column)` is called for a cell that is opened. */
function startMatrix(openPair) {
  const panel = document.getElementById("matrix-panel");
  const tools = html("div", "tools matrix-tools");
  const legend = html("div", "legend");
  const frame = html("div", "matrix-frame");
  const table = html("table", "crossplay");
  table.setAttribute("role", "grid");
  table.setAttribute("aria-label", "Cross-play matrix");
  frame.append(table);
  const title = () => `Cross-play, ${chosenMetric().label}`;
  const parts = () => ["Cross-play", chosenMetric().label, state.subset === "clean" ? "clean" : ""].filter(Boolean);
  tools.append(legend, saveButtons("cross-play matrix", parts, () => matrixDrawing(order, title()), matrixRows));
  panel.append(tools, frame, html("p", "readout", ""));
  const note = panel.querySelector(".readout");

  /** Places of the agents down and across. */
  const order = { rows: [], columns: [] };
  /** Which heading the rows or columns are sorted by: `{axis, place, direction}`. */
  let sorted = null;
  /** The cell that the keyboard is at; -1 is the headings. */
  const at = { row: 0, column: 0 };

  function reorder() {
    if (state.order !== "chosen" || !sorted) {
      const all = players.map((_, place) => place);
      const orders = {
        rank: byRank,
        metric: () => byMetric(state.metric),
        listed: () => all,
        name: () => all.sort((a, b) => players[a].name.localeCompare(players[b].name, "en", { numeric: true })),
      };
      order.rows = (orders[state.order] ?? byRank)();
      order.columns = [...order.rows];
      return;
    }
    const { axis, place, direction } = sorted;
    const value = (other) => {
      const pair = axis === "rows" ? chosenResults().pair(other, place) : chosenResults().pair(place, other);
      return unpackEstimate(pair?.estimates[state.metric])?.mean ?? null;
    };
    order[axis] = [...order[axis]].sort((a, b) => compareValues(value(a), value(b), direction));
  }

  /** Sorts the rows by a column, or the columns by a row; the second time the other way. */
  function sortBy(axis, place) {
    const usual = chosenMetric().better === "low" ? 1 : -1;
    const isSame = sorted?.axis === axis && sorted.place === place && state.order === "chosen";
    sorted = { axis, place, direction: isSame ? -sorted.direction : usual };
    setState({ order: "chosen" });
    focusCell(axis === "rows" ? -1 : order.rows.indexOf(place), axis === "rows" ? order.columns.indexOf(place) : -1);
  }

  function heading(place, axis, letters) {
    const cell = html("th");
    cell.scope = axis === "rows" ? "col" : "row";
    const by = html("button", "by");
    by.type = "button";
    by.tabIndex = -1;
    by.dataset.place = place;
    by.title = `${players[place].name}: sort the ${axis} by this ${axis === "rows" ? "column" : "row"}`;
    const name = html("span", "who");
    if (letters) name.textContent = shortName(players[place].name, letters);
    else breakable(name, players[place].name);
    by.append(name);
    if (sorted?.axis === axis && sorted.place === place && state.order === "chosen") {
      cell.setAttribute("aria-sort", sorted.direction > 0 ? "ascending" : "descending");
    }
    cell.append(by);
    return cell;
  }

  function matrixCell(row, column, look, isWhole) {
    const cell = html("td");
    cell.tabIndex = -1;
    cell.dataset.row = row;
    cell.dataset.column = column;
    const pair = chosenResults().pair(row, column);
    const e = unpackEstimate(pair?.estimates[state.metric]);
    const isKnown = e && e.mean !== null;
    cell.className = isKnown ? `heat ${colorStep(e.mean, look)}` : "heat none";
    if (state.cells === "color") {
      cell.setAttribute("aria-label", isKnown ? shown(e.mean, look) : "none");
      return cell;
    }
    if (!isKnown) {
      cell.textContent = pair ? "none" : "–";
      return cell;
    }
    cell.append(html("b", "", shown(e.mean, look)));
    if (state.cells === "whole") {
      const span = isWhole ? shownSpan(e, look) : shownHalf(e, look);
      cell.append(html("small", "", span || (pair.isIdentical ? (isWhole ? "identical" : "=") : isWhole ? "no interval" : "")));
    }
    return cell;
  }

  function draw() {
    reorder();
    const look = chosenMetric();
    const isWhole = players.length <= WIDE;
    const isUpright = !isWhole || state.cells !== "whole";
    table.className = `crossplay ${state.cells}${isWhole ? " wide" : ""}${isUpright ? " upright" : ""}${players.length > 24 ? " many" : ""}`;
    table.style.setProperty("--columns", players.length);
    const head = table.createTHead();
    const top = html("tr");
    const corner = html("td", "corner");
    corner.append(html("span", "", "row ↓ against"), " ", html("span", "", "column →"));
    const letters = isUpright ? 24 : 0;
    top.append(corner, ...order.columns.map((place) => heading(place, "rows", letters)));
    head.replaceChildren(top);
    const body = table.tBodies[0] ?? table.createTBody();
    body.replaceChildren(...order.rows.map((row) => {
      const line = html("tr");
      line.append(heading(row, "columns", state.cells === "color" ? (players.length > 24 ? 27 : 21) : 0), ...order.columns.map((column) => matrixCell(row, column, look, isWhole)));
      return line;
    }));
    drawLegend(look);
    const about = [
      state.cells === "whole" && !isWhole ? "± is the longer side of the interval." : "",
      chosenResults().pairs.some((pair) => pair.isIdentical) && state.cells === "whole" ? `${isWhole ? "“identical”" : "“=”"}: every match of the pair is the same.` : "",
      chosenResults().pairs.length < players.length ** 2 ? "“–”: not played." : "",
    ];
    if (players.length > 12 && state.cells !== "color") about.push("The table scrolls both ways; with “color only” it is seen as a whole.");
    note.textContent = about.filter(Boolean).join(" ");
    cellAt(at.row, at.column)?.setAttribute("tabindex", "0");
  }

  function drawLegend(look) {
    const steps = look.scale === "d" ? 11 : 9;
    const bar = html("span", "steps");
    for (let i = 0; i < steps; i += 1) bar.append(html("i", `${look.scale}${i}`));
    const name = html("span", "term", look.label);
    name.dataset.define = `def-m${state.metric}`;
    name.tabIndex = 0;
    const none = html("span", "no-value");
    none.append(html("i", "heat none"), "none");
    const scale = html("span", "scale");
    scale.append(html("span", "", shown(look.low, look)), bar, html("span", "", shown(look.high, look)));
    legend.replaceChildren(name, scale, ...(table.querySelector("td.heat.none") ? [none] : []));
  }

  // ---- details ----------------------------------------------------------------------------
  function describe(cell) {
    const row = Number(cell.dataset.row), column = Number(cell.dataset.column);
    const pair = chosenResults().pair(row, column);
    const look = chosenMetric();
    const e = unpackEstimate(pair?.estimates[state.metric]);
    const who = html("b", "", row === column ? `${players[row].name} in self-play` : `${players[row].name} against ${players[column].name}`);
    const lines = [who];
    if (!pair) lines.push(html("span", "value", "not played"));
    else if (!e || e.mean === null) lines.push(html("span", "value", `${look.label}: none`));
    else lines.push(html("span", "value", `${look.label} ${shown(e.mean, look)}${isSpan(e) ? `, interval ${shownSpan(e, look)}` : ", no interval"}, n = ${e.n}`));
    if (e?.note) lines.push(html("span", "note-line", e.note));
    if (pair) lines.push(html("span", "note-line", `${countOf(pair.matches, "match")}${pair.isIdentical ? ", all identical" : ""}`));
    const definition = definitionOf(`def-m${state.metric}`);
    if (definition) lines.push(definition[1]);
    return lines;
  }
  function look(event) {
    const cell = event.target.closest("td[data-row]");
    if (cell) showBeside(cell, describe(cell));
  }
  table.addEventListener("pointerover", (event) => { if (event.pointerType !== "touch") look(event); });
  table.addEventListener("pointerout", hideBeside);
  table.addEventListener("focusout", hideBeside);

  // ---- keyboard and clicks ----------------------------------------------------------------
  /** The cell or heading at a place on the grid. */
  function cellAt(row, column) {
    const line = row < 0 ? table.tHead?.rows[0] : table.tBodies[0]?.rows[row];
    const cell = line?.cells[column + 1];
    return cell?.querySelector("button") ?? cell;
  }
  function focusCell(row, column) {
    cellAt(at.row, at.column)?.setAttribute("tabindex", "-1");
    at.row = Math.max(-1, Math.min(row, order.rows.length - 1));
    at.column = Math.max(-1, Math.min(column, order.columns.length - 1));
    if (at.row < 0 && at.column < 0) at.column = 0;
    const cell = cellAt(at.row, at.column);
    cell.tabIndex = 0;
    cell.focus({ preventScroll: true });
    reveal(cell.closest("td, th"));
  }
  /** Scrolls so that no heading that stays covers the cell. */
  function reveal(cell) {
    const corner = table.tHead.rows[0].cells[0].getBoundingClientRect();
    const box = cell.getBoundingClientRect();
    const outer = frame.getBoundingClientRect();
    if (at.column >= 0 && box.left < outer.left + corner.width) frame.scrollLeft -= outer.left + corner.width - box.left + 4;
    if (box.right > outer.right) frame.scrollLeft += box.right - outer.right + 12;
    if (at.row >= 0 && box.top < outer.top + corner.height) frame.scrollTop -= outer.top + corner.height - box.top + 4;
    if (box.bottom > outer.bottom) frame.scrollTop += box.bottom - outer.bottom + 12;
    const seen = cell.getBoundingClientRect();
    if (seen.top < 60) window.scrollBy(0, seen.top - 120);
    if (seen.bottom > window.innerHeight - 20) window.scrollBy(0, seen.bottom - window.innerHeight + 120);
    if (cell.matches("td") && document.activeElement === cell) showBeside(cell, describe(cell));
  }
  table.addEventListener("keydown", (event) => {
    const last = order.rows.length - 1;
    const steps = {
      ArrowUp: [at.row - 1, at.column], ArrowDown: [at.row + 1, at.column],
      ArrowLeft: [at.row, at.column - 1], ArrowRight: [at.row, at.column + 1],
      Home: [event.ctrlKey ? 0 : at.row, 0], End: [event.ctrlKey ? last : at.row, last],
      PageUp: [Math.max(0, at.row - 10), at.column], PageDown: [at.row + 10, at.column],
    };
    const cell = event.target.closest("td[data-row]");
    if (steps[event.key]) {
      event.preventDefault();
      focusCell(...steps[event.key]);
    } else if (cell && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      open(cell);
    }
  });
  function open(cell) {
    hideBeside();
    openPair(Number(cell.dataset.row), Number(cell.dataset.column));
  }
  table.addEventListener("click", (event) => {
    const by = event.target.closest("button.by");
    const cell = event.target.closest("td[data-row]");
    if (by) sortBy(by.closest("thead") ? "rows" : "columns", Number(by.dataset.place));
    if (cell) {
      focusCell(order.rows.indexOf(Number(cell.dataset.row)), order.columns.indexOf(Number(cell.dataset.column)));
      open(cell);
    }
  });

  function matrixRows() {
    const { metric } = state;
    const keys = ["mean", "low", "high", "n"];
    const head = order.columns.flatMap((column) => keys.map((key) => (key === "mean" ? players[column].name : `${players[column].name}, ${key}`)));
    return [["row player", ...head], ...order.rows.map((row) => [players[row].name, ...order.columns.flatMap((column) => {
      const e = unpackEstimate(chosenResults().pair(row, column)?.estimates[metric]);
      return keys.map((key) => e?.[key] ?? null);
    })])];
  }

  listeners.push(draw);
  draw();
  /** Puts the keyboard back on a pair's cell. */
  return (row, column) => focusCell(order.rows.indexOf(row), order.columns.indexOf(column));
}
