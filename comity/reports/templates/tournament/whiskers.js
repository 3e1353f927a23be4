"use strict";
// Figures of estimates side by side: a dot and its interval a row, or a bar from 0.

const REACH = 8;
/** Intervals widen the axis by so many spans of the means at most; beyond, they are cut off. */

/** The part of the axis that these rows need. */
function axisOf(rows, range, lines, isBars) {
  if (range) return range;
  const means = [...rows.map((row) => row.mean), ...lines.map((line) => line.at), ...(isBars ? [0] : [])];
  const least = Math.min(...means), greatest = Math.max(...means);
  const room = REACH * (greatest - least) || Infinity;
  const spans = rows.filter(isSpan);
  const low = Math.max(Math.min(least, ...spans.map((row) => row.low)), least - room);
  const high = Math.min(Math.max(greatest, ...spans.map((row) => row.high)), greatest + room);
  const pad = 0.03 * (high - low) || 0.5 * Math.abs(low) || 0.5;
  return [isBars && low === 0 ? 0 : low - pad, isBars && high === 0 ? 0 : high + pad];
}

/**
 * Rows of estimates. `rows`: [{name, mean, low, high, n, color}]; `look` writes the values; `lines`
 * are exact values, [{at, name}], drawn dashed across all rows; `isBars` draws bars from 0; `all` are
 * the rows of the saved table, where they are more.
 */
function whiskers(container, { title, unit, rows, all = rows, look, range, lines = [], isBars = false }) {
  const [low, high] = axisOf(rows, range, lines, isBars);
  const described = rows.slice(0, 12).map((row) => `${row.name} ${shown(row.mean, look)}`).join(", ");

  function draw(width) {
    const room = Math.min(0.42 * width, Math.max(...rows.map((row) => labelWidth(row.name))));
    const named = rows.map((row) => wrapped(row.name, Math.max(8, Math.floor((room - 16) / 7.2))));
    const values = rows.map((row) => shown(row.mean, look));
    const right = 10 + 7.4 * Math.max(...values.map((text) => text.length));
    const inner = width - room - right - 8;
    const x = (value) => room + ((Math.min(Math.max(value, low), high) - low) / (high - low || 1)) * inner;
    const heights = named.map((texts) => Math.max(22, 15 * texts.length + 7));
    const top = 8 + 15 * lines.length;
    const bottom = top + heights.reduce((sum, one) => sum + one, 0);
    const drawing = svg("svg", { viewBox: `0 0 ${width} ${bottom + 26}` });
    for (const value of ticks(low, high, Math.max(2, Math.floor(inner / 56)))) {
      drawing.append(svg("line", { class: "grid", x1: x(value), x2: x(value), y1: top, y2: bottom }));
      drawing.append(svg("text", { x: x(value), y: bottom + 18, "text-anchor": "middle" }, tickLabel(value, look.percent ? percent : (v) => decimals(v, look.digits))));
    }
    if (low < 0 && high > 0) drawing.append(svg("line", { class: "axis", x1: x(0), x2: x(0), y1: top, y2: bottom }));
    lines.forEach((line, i) => {
      drawing.append(svg("line", { class: "line reference-line", x1: x(line.at), x2: x(line.at), y1: 4 + 15 * (i + 1), y2: bottom, style: "stroke:var(--ink)" }));
      const isLeft = x(line.at) > room + inner / 2;
      drawing.append(svg("text", { x: x(line.at) + (isLeft ? -5 : 5), y: 12 + 15 * i, "text-anchor": isLeft ? "end" : "start" }, `${line.name} ${shown(line.at, look)}`));
    });
    let y = top;
    rows.forEach((row, i) => {
      const middle = y + heights[i] / 2;
      const color = `stroke:${row.color ?? "var(--accent)"}`;
      const fill = `fill:${row.color ?? "var(--accent)"}`;
      const group = svg("g", { class: "whisker" });
      group.append(svg("title", {}, `${row.name}: ${shown(row.mean, look)}${isSpan(row) ? `, interval ${shownSpan(row, look)}` : ""}${row.n ? `, n = ${row.n}` : ""}`));
      named[i].forEach((text, k) => {
        const at = middle + 4 + 15 * (k - (named[i].length - 1) / 2);
        group.append(svg("text", { class: "row-name", x: room - 12, y: at, "text-anchor": "end" }, text));
      });
      if (isBars) group.append(svg("rect", { x: Math.min(x(0), x(row.mean)), y: middle - 6, width: Math.max(1, Math.abs(x(row.mean) - x(0))), height: 12, rx: 2, style: `${fill};opacity:.8` }));
      if (isSpan(row)) {
        group.append(svg("line", { x1: x(row.low), x2: x(row.high), y1: middle, y2: middle, style: `${color};stroke-width:2.5`, opacity: 0.55 }));
        for (const [value, end] of [[row.low, low], [row.high, high]]) {
          const isCut = end === low ? value < low : value > high;
          if (!isCut) group.append(svg("line", { x1: x(value), x2: x(value), y1: middle - 4, y2: middle + 4, style: `${color};stroke-width:1.5`, opacity: 0.7 }));
        }
      }
      if (!isBars) group.append(svg("circle", { cx: x(row.mean), cy: middle, r: 4.5, style: fill }));
      group.append(svg("text", { class: "row-value", x: width - 4, y: middle + 4, "text-anchor": "end" }, values[i]));
      drawing.append(group);
      y += heights[i];
    });
    return { drawing };
  }
  const table = () => [["name", "mean", "low", "high", "n"], ...all.map((row) => [row.name, row.mean, row.low ?? null, row.high ?? null, row.n ?? null]), ...lines.map((line) => [line.name, line.at, null, null, null])];
  return drawnFigure(container, { title, unit, description: described, draw, rows: table });
}
