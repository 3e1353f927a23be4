"use strict";
// The cross-play matrix as a drawing of its own, drawn from the numbers.

/** Colors of a class of cells, as the page shows them now: `[background, ink]`. */
function cellColors(name) {
  const probe = html("span", `heat ${name}`);
  document.body.append(probe);
  const { backgroundColor, color } = getComputedStyle(probe);
  probe.remove();
  return [backgroundColor, color];
}

/** `order`: places of the agents down (`rows`) and across (`columns`). */
function matrixDrawing(order, title) {
  const look = chosenMetric();
  const count = players.length;
  const size = count <= 12 ? { width: 66, height: 38, font: 12 } : count <= 30 ? { width: 46, height: 26, font: 10 } : { width: 34, height: 18, font: 8 };
  const names = (places) => places.map((place) => shortName(players[place].name, 42));
  const longest = Math.max(...names(order.rows).map((name) => name.length));
  const side = 10 + 0.6 * 12 * longest;
  const above = 44 + 0.6 * 12 * longest;
  const width = Math.ceil(side + size.width * order.columns.length + 10);
  const height = Math.ceil(above + size.height * order.rows.length + 46);
  const style = getComputedStyle(document.body);
  const ink = style.color;
  const drawing = svg("svg", { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}`, "font-family": style.fontFamily, "font-size": 12 });
  const write = (x, y, text, more = {}) => drawing.append(svg("text", { x, y, fill: ink, ...more }, text));
  const subset = Object.keys(results).length > 1 ? `, ${SUBSETS[state.subset].toLowerCase()}` : "";
  write(8, 18, `${title}${subset}`, { "font-size": 14, "font-weight": 600 });
  names(order.columns).forEach((name, i) => {
    const x = side + size.width * (i + 0.5) + 4;
    write(x, above - 6, name, { transform: `rotate(-90 ${x} ${above - 6})` });
  });
  names(order.rows).forEach((name, i) => write(side - 8, above + size.height * (i + 0.5) + 4, name, { "text-anchor": "end" }));
  const colors = new Map();
  const paint = (name) => colors.get(name) ?? colors.set(name, cellColors(name)).get(name);
  order.rows.forEach((row, i) => order.columns.forEach((column, k) => {
    const e = unpackEstimate(chosenResults().pair(row, column)?.estimates[state.metric]);
    const isKnown = e && e.mean !== null;
    const [background, text] = paint(isKnown ? colorStep(e.mean, look) : "none");
    const x = side + size.width * k, y = above + size.height * i;
    drawing.append(svg("rect", { x: x + 1, y: y + 1, width: size.width - 2, height: size.height - 2, rx: 3, fill: background }));
    if (!isKnown) return;
    const half = size.height > 30 ? shownHalf(e, look) : "";
    write(x + size.width / 2, y + size.height / 2 + (half ? -1 : 4), shown(e.mean, look), { "text-anchor": "middle", "font-size": size.font, "font-weight": 600, fill: text });
    if (half) write(x + size.width / 2, y + size.height / 2 + 12, half, { "text-anchor": "middle", "font-size": 10, fill: text });
  }));
  const steps = look.scale === "d" ? 11 : 9;
  const foot = height - 26;
  for (let i = 0; i < steps; i += 1) drawing.append(svg("rect", { x: side + 14 * i, y: foot, width: 14, height: 12, fill: paint(`${look.scale}${i}`)[0] }));
  write(side - 8, foot + 10, shown(look.low, look), { "text-anchor": "end" });
  write(side + 14 * steps + 8, foot + 10, shown(look.high, look));
  return drawing;
}
