"use strict";
// Charts: line charts with bands and stacked areas, drawn as SVG at the width they have.

/** Round steps between low and high, about `count` of them. */
function ticks(low, high, count) {
  const span = high - low || 1;
  const power = 10 ** Math.floor(Math.log10(span / count));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => span / s <= count);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

const decimals = (value, digits) => value.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "\u2212");

/** Whole percents; near the ends a decimal, so that only 0 reads "0" and only 1 "100". */
function percent(value) {
  const shown = Number((100 * value).toFixed(9));  // a quotient of equal sums may miss 1
  const nearEnd = (shown > 0 && shown < 1) || (shown > 99 && shown < 100);
  let text = shown.toFixed(nearEnd ? 1 : 0);
  if (nearEnd && text === "0.0") text = "<0.1";
  if (nearEnd && text === "100.0") text = ">99.9";
  return `${text}\u202f%`;
}

/** Moves labels apart so that none overlap; returns their y in the given order. */
function spread(wanted, gap, top, bottom) {
  const order = wanted.map((y, i) => [y, i]).sort((a, b) => a[0] - b[0]);
  const placed = [];
  for (const [y] of order) placed.push(Math.max(y, placed.length ? placed.at(-1) + gap : top));
  let limit = bottom;
  for (let i = placed.length - 1; i >= 0; i -= 1) {
    placed[i] = Math.min(placed[i], limit);
    limit = placed[i] - gap;
  }
  const result = [];
  order.forEach(([, index], i) => { result[index] = placed[i]; });
  return result;
}

/** Width of a label, roughly, in pixels. */
const LETTER = 7.6;
const labelWidth = (text) => LETTER * text.length + 14;

/**
 * Where the names of the series go: beside the ends of their lines, or, where one is too long
 * for that, below the chart, each in as many lines as it takes.
 */
function placeNames(names, width) {
  const beside = Math.max(...names.map(labelWidth));
  if (beside <= 0.3 * width) return { right: beside, below: 0, lines: null };
  const lines = names.map((name) => wrapped(name, Math.floor((width - 30) / LETTER)));
  return { right: 14, below: 18 * lines.flat().length + 6, lines };
}

/** The style of a series' line: its color, and its dashes where it has some. */
const strokeOf = (s) => `stroke:${s.color}${s.dash ? `;stroke-dasharray:${s.dash}` : ""}`;

/** The names of the series below the chart, each with its color. */
function drawNames(drawing, series, lines, top) {
  let y = top;
  series.forEach((s, index) => {
    drawing.append(svg("line", { class: s.isReference ? "line reference-line" : "line", x1: 2, x2: 18, y1: y - 4, y2: y - 4, style: strokeOf(s) }));
    for (const line of lines[index]) {
      drawing.append(svg("text", { class: "label", x: 22, y, style: `fill:${s.color}` }, line));
      y += 18;
    }
  });
}

/**
 * A figure whose horizontal axis can be read step by step. `draw(width)` returns the drawing and
 * its horizontal scale; `readout(index)` is the line below it for the chosen place; `along` names
 * what the places are ("iteration").
 */
function figure(container, { title, unit, description, iterations, draw, readout, rows, along = "iteration" }) {
  let chosen = null;
  const called = along[0].toUpperCase() + along.slice(1);

  function equip(drawing, { x, top, bottom }, width, line) {
    const cursor = svg("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" });
    drawing.append(cursor);

    function choose(index) {
      chosen = index;
      cursor.setAttribute("visibility", index === null ? "hidden" : "visible");
      line.textContent = "";
      if (index === null) return;
      cursor.setAttribute("x1", x(iterations[index]));
      cursor.setAttribute("x2", x(iterations[index]));
      line.textContent = `${called} ${iterations[index]}: ${readout(index)}`;
    }
    drawing.addEventListener("pointermove", (event) => {
      const left = drawing.getBoundingClientRect().left;
      const scale = width / drawing.getBoundingClientRect().width;
      const at = (event.clientX - left) * scale;
      const gaps = iterations.map((iteration) => Math.abs(x(iteration) - at));
      choose(gaps.indexOf(Math.min(...gaps)));
    });
    drawing.addEventListener("pointerleave", () => choose(null));
    drawing.addEventListener("blur", () => choose(null));
    drawing.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const from = chosen === null ? (step > 0 ? -1 : iterations.length) : chosen;
      choose(Math.min(Math.max(from + step, 0), iterations.length - 1));
    });
    // The drawing before this one loses the focus when it is replaced, and with it what was chosen.
    const before = chosen;
    return () => { if (before !== null) choose(before); };
  }
  return drawnFigure(container, { title, unit, description, draw, rows, equip });
}

/** A tick as it is: shares between whole percents keep a decimal ("2.5 %", not "3 %"). */
function tickLabel(value, format) {
  const hundredths = Math.round(1e6 * value) / 1e4;
  return format === percent && !Number.isInteger(hundredths) ? `${decimals(hundredths, 1)}\u202f%` : format(value);
}

/** Frame, grid and axes; returns the drawing and its scales. */
function axes(width, height, margin, iterations, low, high, format, along = "iteration") {
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}` });
  const first = iterations[0];
  const last = iterations.at(-1);
  const inner = width - margin.left - margin.right;
  const bottom = height - margin.bottom;
  const x = (v) => margin.left + (last > first ? (v - first) / (last - first) : 0.5) * inner;
  const y = (v) => bottom - ((v - low) / (high - low || 1)) * (bottom - margin.top);
  for (const value of ticks(low, high, 5)) {
    drawing.append(svg("line", { class: "grid", x1: margin.left, x2: margin.left + inner, y1: y(value), y2: y(value) }));
    drawing.append(svg("text", { x: margin.left - 8, y: y(value) + 4, "text-anchor": "end" }, tickLabel(value, format)));
  }
  const whole = ticks(first, last, Math.max(2, Math.floor(inner / 60))).filter(Number.isInteger);
  for (const value of last > first ? whole : [first]) {
    drawing.append(svg("text", { x: x(value), y: bottom + 18, "text-anchor": "middle" }, value));
  }
  drawing.append(svg("text", { x: margin.left + inner / 2, y: bottom + 36, "text-anchor": "middle" }, along));
  return { drawing, x, y, top: margin.top, bottom };
}

/** Whether a point has an interval. */
const isSpan = (point) => Boolean(point) && typeof point.low === "number" && typeof point.high === "number";

/** What a line chart shows, as rows: one for each iteration and name. */
function curveRows(iterations, series, along = "iteration", each = "seed") {
  const seeds = [...new Set(series.flatMap((s) => s.points.flatMap((p) => Object.keys(p?.seeds ?? {}))))];
  const head = [along, "name", "mean", "low", "high", "n", ...seeds.map((seed) => `${each} ${seed}`)];
  const body = series.flatMap((s) => s.points.flatMap((p, i) => (p ? [[
    iterations[i], s.name, p.mean, p.low ?? null, p.high ?? null, p.n ?? null, ...seeds.map((seed) => p.seeds?.[seed] ?? null),
  ]] : [])));
  return [head, ...body];
}

/** From the least to the greatest of points and seeds; intervals reach out by one such span at most. */
function spanOf(points, seeds) {
  const values = [...points.map((p) => p.mean), ...seeds];
  const least = Math.min(...values), greatest = Math.max(...values);
  const room = greatest - least || 0.5 * Math.abs(least) || 0.5;
  const spans = points.filter(isSpan);
  return [
    Math.max(Math.min(least, ...spans.map((p) => p.low)), least - room),
    Math.min(Math.max(greatest, ...spans.map((p) => p.high)), greatest + room),
  ];
}

/**
 * Lines with bands. `series`: [{name, color, points: [{mean, low, high, n, seeds?} | null],
 * isReference}], one point per iteration: null where nothing was counted (the line is broken),
 * undefined where nothing was recorded (it goes on). A point without an interval has null for
 * `low` and `high`.
 * `seeds`: values of each seed, drawn as thin lines (`each` is what they are called). References are
 * exact values to hold the others against: dashed, without band and points. A series with `dash` is
 * drawn with such dashes. With `isKeyed`, a key beside the chart names the series, and only a saved
 * chart names them itself.
 */
function lineChart(container, { title, unit, iterations, series, range, format, along, each, isKeyed = false }) {
  const known = series.flatMap((s) => s.points.filter(Boolean));
  const seeds = known.flatMap((p) => Object.values(p.seeds ?? {}));
  const [low, high] = range ?? spanOf(known, seeds);
  // A constant has no span of its own: half its size above and below it.
  const pad = range ? 0 : 0.05 * (high - low) || 0.5 * Math.abs(low) || 0.5;
  const text = (point) => (point ? format(point.mean) : "none");
  const whole = (point, isExact) => (isExact || !isSpan(point) ? text(point) : `${format(point.mean)} (${format(point.low)} to ${format(point.high)})`);
  const description = series
    .map((s) => `${s.name}: from ${text(s.points.find(Boolean))} to ${text(s.points.findLast(Boolean))}`)
    .join("; ");

  function draw(width, isSaved = false) {
    const isNamed = isSaved || !isKeyed;
    const { right, below, lines } = isNamed ? placeNames(series.map((s) => s.name), width) : { right: 14, below: 0, lines: null };
    const margin = { left: 46, right, top: 10, bottom: 42 + below };
    const frame = axes(width, 250 + below, margin, iterations, low - pad, high + pad, format, along);
    const { drawing, x, y, top, bottom } = frame;
    const inside = (value) => Math.min(Math.max(value, low - pad), high + pad);
    for (const s of series) drawSeries({ ...frame, inside }, s, iterations, [margin.left, width - right]);
    if (lines) {
      drawNames(drawing, series, lines, bottom + 60);
    } else if (isNamed) {
      const last = series.map((s) => y((s.points.findLast(Boolean) || { mean: low }).mean));
      spread(last, 16, top, bottom).forEach((at, index) => {
        const { name, color } = series[index];
        drawing.append(svg("text", { class: "label", x: width - right + 10, y: at + 4, style: `fill:${color}` }, name));
      });
    }
    return frame;
  }
  const readout = (i) => series.map((s) => `${s.name} ${whole(s.points[i], s.isReference)}`).join(", ");
  figure(container, { title, unit, description, iterations, draw, readout, along, rows: () => curveRows(iterations, series, along, each) });
}

/** One line of a line chart: bands where intervals are known (`inside` cuts off what leaves the chart), the line, its seeds, its points. */
function drawSeries({ drawing, x, y, inside }, s, iterations, [left, right]) {
  const stroke = strokeOf(s);
  const place = (at, value) => `${at},${y(value)}`;
  const add = (tag, attributes) => drawing.append(svg(tag, attributes));
  const runs = [[]];
  s.points.forEach((point, i) => {
    if (point) runs.at(-1).push([x(iterations[i]), point]);
    else if (point === null && runs.at(-1).length) runs.push([]);
  });
  for (const run of runs.filter((r) => r.length)) {
    const [[at, p]] = run;
    const spans = run.filter(([, point]) => isSpan(point));
    if (run.length === 1 && s.isReference) {
      add("line", { class: "line reference-line", x1: left, x2: right, y1: y(p.mean), y2: y(p.mean), style: stroke });
    } else if (run.length > 1) {
      if (spans.length > 1 && !s.isReference) {
        const upper = spans.map(([where, point]) => place(where, inside(point.high)));
        const lower = spans.map(([where, point]) => place(where, inside(point.low))).reverse();
        add("polygon", { class: "band", points: [...upper, ...lower].join(" "), style: `fill:${s.color}` });
      }
      const middle = run.map(([where, point]) => place(where, point.mean));
      add("polyline", { class: s.isReference ? "line reference-line" : "line", points: middle.join(" "), style: stroke });
    }
    // A single interval is a band without width.
    if (spans.length === 1 && !s.isReference) {
      const [[where, point]] = spans;
      add("line", { x1: where, x2: where, y1: y(inside(point.low)), y2: y(inside(point.high)), style: `${stroke};stroke-width:2;opacity:.5` });
    }
    for (const seed of new Set(run.flatMap(([, point]) => Object.keys(point.seeds ?? {})))) {
      const own = run.filter(([, point]) => point.seeds?.[seed] !== undefined).map(([where, point]) => place(where, point.seeds[seed]));
      add("polyline", { class: "line seed-line", points: own.join(" "), style: stroke });
    }
    if ((iterations.length <= 40 || run.length === 1) && !s.isReference) {
      for (const [where, point] of run) add("circle", { cx: where, cy: y(point.mean), r: 2.8, style: `fill:${s.color}` });
    }
  }
}

/** Stacked shares. `layers`: [{name, color?, values}], drawn from the bottom up. */
function stackedAreas(container, { title, unit, iterations, layers, along = "iteration" }) {
  const last = iterations.length - 1;
  const seen = layers.filter((layer) => layer.values.some((v) => v > 0));
  const description = `In the last ${along}: ${seen.map((l) => `${l.name} ${percent(l.values[last])}`).join(", ")}`;

  function draw(width) {
    const margin = { left: 46, right: 86, top: 10, bottom: 42 };
    const frame = axes(width, 230, margin, iterations, 0, 1, percent, along);
    const { drawing, x, y, top, bottom } = frame;
    const base = iterations.map(() => 0);
    const named = [];
    // One iteration only has no width; it is drawn as a bar.
    const edges = last > 0 ? iterations.map(x) : [x(iterations[0]) - 30, x(iterations[0]) + 30];
    for (const layer of seen) {
      const below = base.slice();
      layer.values.forEach((value, i) => { base[i] += value; });
      const at = (values, i) => `${edges[i]},${y(values[Math.min(i, last)])}`;
      const places = edges.map((_, i) => i);
      const points = [...places.map((i) => at(base, i)), ...places.reverse().map((i) => at(below, i))];
      drawing.append(svg("polygon", { class: "area", points: points.join(" "), style: `fill:${layer.color ?? `var(--${layer.name.replace("|", "")})`}` }));
      if (layer.values[last] >= 0.005) named.push([layer, y((below[last] + base[last]) / 2)]);
    }
    drawing.append(svg("rect", { class: "frame", x: edges[0], y: top, width: edges.at(-1) - edges[0], height: bottom - top }));
    const ends = spread(named.map(([, at]) => at), 15, top + 6, bottom - 4);
    named.forEach(([layer], i) => {
      drawing.append(svg("text", { x: width - margin.right + 10, y: ends[i] + 4 }, `${layer.name} ${percent(layer.values[last])}`));
    });
    return frame;
  }
  const readout = (i) => seen.map((l) => `${l.name} ${percent(l.values[i])}`).join(", ");
  const rows = () => [[along, ...layers.map((l) => l.name)], ...iterations.map((iteration, i) => [iteration, ...layers.map((l) => l.values[i])])];
  figure(container, { title, unit, description, iterations, draw, readout, rows, along });
}
