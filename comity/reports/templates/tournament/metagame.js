"use strict";
// Figures of the meta-game: ratings of the agents, and replicator dynamics of three of them.

const RATED = 20;
/** Figures of ratings show so many agents; the saved table has all. */

function drawRatings() {
  const panels = document.getElementById("rating-panels");
  if (!panels) return;
  const { alpha_rank, deviation_ratings, elo, moran } = data.metagame;
  const drawn = [
    { found: alpha_rank, title: "Alpha-rank", unit: "stationary mass", define: "def-alpha", look: { percent: true } },
    { found: deviation_ratings, title: "Deviation rating", unit: "payoff; higher is better", define: "def-deviation", look: { percent: false, digits: 2 } },
    { found: elo, title: "Elo", unit: "rating", define: "def-elo", look: { percent: false, digits: 0 }, isDots: true },
    { found: moran, title: "Moran process", unit: `probability of taking over; neutral ${percent(1 / players.length)}`, define: "def-moran", look: { percent: true } },
  ];
  for (const { found, title, unit, define, look, isDots } of drawn) {
    const rows = found.filter(([, value]) => value !== null).map(([place, mean]) => ({ name: players[place].name, mean }));
    if (!rows.length) continue;
    rows.sort((a, b) => b.mean - a.mean);
    const { box } = whiskers(panels, { title, unit, rows: rows.slice(0, RATED), all: rows, look, isBars: !isDots });
    if (rows.length > RATED) box.append(html("p", "readout", `The ${RATED} highest of ${rows.length}; the CSV has all.`));
    box.querySelector(".title").dataset.define = define;
    box.querySelector(".title").classList.add("term");
    const note = isDots && document.getElementById("elo-note");
    if (note) box.querySelector("figcaption").after(note);
  }
}

/** Where a mixture of three agents lies in a triangle; the first is on top. */
function ternary([first, second, third], { left, top, side }) {
  const total = first + second + third || 1;
  return [left + (side * (third + first / 2)) / total, top + (side * Math.sqrt(0.75) * (total - first)) / total];
}

function drawSimplex() {
  const panel = document.getElementById("simplex-panel");
  if (!panel) return;
  if (players.length !== 3) {
    panel.closest(".replicator").classList.remove("two");
    panel.remove();
    return;
  }
  const { points, trajectories } = data.metagame;
  const mixtureOf = (point) => players.map((_, place) => point.mixture.find(([other]) => other === place)?.[1] ?? 0);
  const named = points.map((point) => `${mixtureOf(point).map((share, place) => `${percent(share)} ${players[place].name}`).join(", ")}: basin ${percent(point.basin)}`);

  function draw(width) {
    const whole = Math.min(width, 460);
    const letters = Math.floor(whole / 2 / 7.8);
    const lines = players.map((player) => wrapped(player.name, letters));
    const top = 20 + 16 * lines[0].length;
    const side = whole - 60;
    const frame = { left: (width - side) / 2, top, side };
    const bottom = top + side * Math.sqrt(0.75);
    const height = bottom + 14 + 16 * Math.max(lines[1].length, lines[2].length);
    const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}` });
    const corners = [[1, 0, 0], [0, 1, 0], [0, 0, 1]].map((corner) => ternary(corner, frame));
    drawing.append(svg("polygon", { class: "simplex", points: corners.map((corner) => corner.join(",")).join(" ") }));
    for (const share of [0.25, 0.5, 0.75]) {
      for (const [a, b] of [[[share, 1 - share, 0], [share, 0, 1 - share]], [[1 - share, share, 0], [0, share, 1 - share]], [[1 - share, 0, share], [0, 1 - share, share]]]) {
        const [[x1, y1], [x2, y2]] = [ternary(a, frame), ternary(b, frame)];
        drawing.append(svg("line", { class: "grid", x1, y1, x2, y2 }));
      }
    }
    for (const path of trajectories) drawing.append(...trajectory(path, frame));
    points.forEach((point, i) => {
      const [cx, cy] = ternary(mixtureOf(point), frame);
      const dot = svg("circle", { class: "rest", cx, cy, r: 4 + 6 * Math.sqrt(point.basin ?? 0), style: `fill:${point.basin > 0.001 ? "var(--ink)" : "var(--paper)"}` });
      dot.append(svg("title", {}, named[i]));
      drawing.append(dot);
    });
    corners.forEach(([x, y], place) => lines[place].forEach((text, k) => {
      const at = place === 0 ? y - 18 - 16 * (lines[0].length - 1 - k) : y + 22 + 16 * k;
      const anchor = ["middle", "start", "end"][place];
      const shift = [0, -24, 24][place];
      drawing.append(svg("text", { class: "label", x: x + shift, y: at, "text-anchor": anchor, style: `fill:${agentColor(place)}` }, text));
    }));
    return { drawing };
  }
  const rows = () => [["trajectory", "step", ...players.map((player) => player.name)], ...trajectories.flatMap((path, i) => path.map((moment, k) => [i, k, ...moment]))];
  drawnFigure(panel, { title: "Simplex", unit: "shares of the population", description: named.join("; "), draw, rows });
  panel.append(html("p", "readout", "A line is a population over time, in the color of the agent that is most frequent at its end. Filled points attract; their size is the basin."));
}

/** A line with a small head in its middle; its color says which agent is most frequent at its end. */
function trajectory(path, frame) {
  const end = path.at(-1);
  const color = agentColor(end.indexOf(Math.max(...end)));
  const places = path.map((moment) => ternary(moment, frame));
  const line = svg("polyline", { class: "trajectory", points: places.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "), style: `stroke:${color}` });
  // The middle of the way, not of the time: most of the time is spent near rest points.
  const steps = places.slice(1).map(([x, y], i) => Math.hypot(x - places[i][0], y - places[i][1]));
  const half = steps.reduce((sum, step) => sum + step, 0) * 0.45;
  let gone = 0;
  const at = steps.findIndex((step) => (gone += step) >= half && step > 0);
  if (at < 0 || half < 6) return [line];
  const [[x1, y1], [x2, y2]] = [places[at], places[at + 1]];
  const turn = (Math.atan2(y2 - y1, x2 - x1) * 180) / Math.PI;
  const head = svg("polygon", { points: "0,0 -7,3.2 -7,-3.2", transform: `translate(${x2.toFixed(1)} ${y2.toFixed(1)}) rotate(${turn.toFixed(1)})`, style: `fill:${color}` });
  return [line, head];
}

/** Payoffs of cooperating and of defecting by how many of the others cooperate. */
function drawSchelling() {
  const panel = document.getElementById("schelling-panel");
  if (!panel || !data.schelling) return;
  const { cooperate, defect } = data.schelling;
  const others = Array.from({ length: Math.max(cooperate.length, defect.length) }, (_, i) => i);
  const line = (name, values, color) => ({ name, color, points: others.map((i) => (isNumber(values[i]) ? { mean: values[i], low: null, high: null, n: null } : null)) });
  lineChart(panel, {
    title: "Schelling diagram", unit: data.unit, iterations: others, along: "others who cooperate",
    format: (value) => decimals(value, 2),
    series: [line("defect", defect, "var(--defect-line)"), line("cooperate", cooperate, "var(--coop-line)")],
  });
}
