"use strict";
// Heat maps as tables: colored cells that are walked with arrow keys, with a line that reads one.

/**
 * A heat map. `rows` and `columns` are names; `cell(i, k)` is {mean, low, high} or null; `look` says
 * how a value is written (percent, digits) and colored (scale, low, high); `isSigned` marks a scale of
 * powers of two. `corner` names rows and columns; `name()` are the parts of a saved file's name.
 * Returns a function that draws another map in its place.
 */
function heatMap(container, title) {
  const tools = html("div", "tools matrix-tools");
  const legend = html("div", "legend");
  const frame = html("div", "scroll heat-frame");
  const table = html("table", "crossplay heatmap");
  table.setAttribute("role", "grid");
  table.setAttribute("aria-label", title);
  const note = html("p", "heat-note");
  note.setAttribute("aria-live", "polite");
  frame.append(table);
  let shownNow = null;
  tools.append(legend, saveButtons(title, () => [title, ...shownNow.name], () => tableDrawing(table), () => heatRows(shownNow)));
  const sign = html("span", "wide-sign");
  container.replaceChildren(tools, sign, frame, note);
  const measure = () => {
    const hidden = frame.scrollWidth - frame.clientWidth;
    const isAtEnd = frame.scrollLeft >= hidden - 1;
    sign.textContent = hidden <= 8 ? "" : isAtEnd ? "← more columns" : "more columns: scroll →";
    frame.classList.toggle("is-cut", hidden > 8 && !isAtEnd);
  };
  frame.addEventListener("scroll", measure, { passive: true });
  new ResizeObserver(measure).observe(frame);
  const at = { row: 0, column: 0 };

  const place = (value, look) => (look.log ? Math.log2(Math.max(value, 1e-9)) : value);
  const stepOf = (value, look) => colorStep(place(value, look), look);
  const written = (value, look) => (look.log ? `${decimals(value, value < 10 ? 2 : 1)}×` : shown(value, look));

  function draw(map) {
    shownNow = map;
    const { rows, columns, cell, look, corner } = map;
    const isMany = columns.length > 12;
    const isColor = columns.length > 32;
    table.className = `crossplay heatmap${isMany ? " many" : ""}${isColor ? " color" : ""}${columns.length <= 4 ? " small" : ""}`;
    table.style.setProperty("--columns", columns.length);
    const top = html("tr");
    top.append(html("td", "corner", corner), ...columns.map((name) => {
      const head = html("th");
      head.scope = "col";
      const text = html("span");
      if (isMany) text.textContent = shortName(name, 24);
      else breakable(text, name);
      head.append(text);
      return head;
    }));
    table.createTHead().replaceChildren(top);
    const body = table.tBodies[0] ?? table.createTBody();
    body.replaceChildren(...rows.map((name, i) => {
      const line = html("tr");
      const head = html("th");
      head.scope = "row";
      breakable(head, name);
      line.append(head, ...columns.map((_, k) => {
        const e = cell(i, k);
        const one = html("td", e ? `heat ${stepOf(e.mean, look)}` : "heat none");
        one.tabIndex = -1;
        if (!e) one.textContent = isColor ? "" : "–";
        else if (isColor) one.setAttribute("aria-label", written(e.mean, look));
        else {
          one.append(html("b", "", written(e.mean, look)));
          if (!isMany && isSpan(e)) one.append(html("small", "", `${written(e.low, look).replace(/[×\u202f%]/g, "")} to ${written(e.high, look)}`));
        }
        return one;
      }));
      return line;
    }));
    drawLegend(look);
    note.textContent = map.note ?? "";
    measure();
    at.row = Math.min(at.row, rows.length - 1);
    at.column = Math.min(at.column, columns.length - 1);
    cellAt(at.row, at.column).tabIndex = 0;
  }

  function drawLegend(look) {
    const steps = html("span", "steps");
    for (let i = 0; i <= (look.scale === "d" ? 10 : 8); i += 1) steps.append(html("i", `${look.scale}${i}`));
    const scale = html("span", "scale");
    const ends = look.log ? [`≤ ${2 ** look.low}×`, `≥ ${2 ** look.high}×`] : [shown(look.low, look), shown(look.high, look)];
    scale.append(html("span", "", ends[0]), steps, html("span", "", ends[1]));
    legend.replaceChildren(scale);
  }

  const cellAt = (row, column) => table.tBodies[0].rows[row].cells[column + 1];
  const read = (row, column) => {
    const { rows, columns, cell, look } = shownNow;
    const e = cell(row, column);
    const value = e ? `${written(e.mean, look)}${isSpan(e) ? `, interval ${written(e.low, look)} to ${written(e.high, look)}` : ""}` : "nothing counted";
    note.textContent = `${rows[row]} → ${columns[column]}: ${value}`;
  };
  const placeOf = (target) => {
    const one = target.closest("td.heat");
    return one && [one.closest("tr").sectionRowIndex, one.cellIndex - 1];
  };
  table.addEventListener("pointerover", (event) => { const found = placeOf(event.target); if (found) read(...found); });
  table.addEventListener("pointerleave", () => { note.textContent = shownNow.note ?? ""; });
  table.addEventListener("focusin", (event) => { const found = placeOf(event.target); if (found) read(...found); });
  table.addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    cellAt(at.row, at.column).tabIndex = -1;
    at.row = Math.min(Math.max(at.row + move[0], 0), shownNow.rows.length - 1);
    at.column = Math.min(Math.max(at.column + move[1], 0), shownNow.columns.length - 1);
    const next = cellAt(at.row, at.column);
    next.tabIndex = 0;
    next.focus();
  });
  return draw;
}

/** A heat map as rows: one for each cell, with its interval. */
function heatRows({ rows, columns, cell }) {
  const body = rows.flatMap((row, i) => columns.map((column, k) => {
    const e = cell(i, k);
    return [row, column, e?.mean ?? null, e?.low ?? null, e?.high ?? null];
  }));
  return [["row", "column", "mean", "low", "high"], ...body];
}

/** Cells from nested lists `mean`, `low` and `high`. */
const cellsOf = (matrix) => (i, k) => (matrix.mean[i][k] === null ? null : { mean: matrix.mean[i][k], low: matrix.low[i][k], high: matrix.high[i][k] });
