"use strict";
// The page's data, and what its charts have in common: colors of conditions and types, controls.

const data = JSON.parse(document.getElementById("page-data").textContent);

/** How a condition is drawn, the same in every chart of the page. */
const CONDITION_LOOKS = {
  selection: { color: "var(--p0)" },
  random: { color: "var(--p1)" },
  fixed: { color: "var(--p0)" },
  random_matching: { color: "var(--p1)", dash: "7 4" },
  random_selection: { color: "var(--p2)", dash: "2 3" },
};
const OUTCOME_COLORS = { CC: "var(--CC)", CD: "var(--CD)", DC: "var(--DC)", DD: "var(--DD)", mixed: "var(--p4)" };
const RUNNING = {
  cumulative_payoff: { label: "Cumulative payoff", unit: "points", definition: "Running sum of the payoff per episode, per agent." },
  cumulative_reward: { label: "Cumulative intrinsic reward", unit: "reward", definition: "Running sum of the intrinsic reward per episode, per agent." },
  cumulative_collective: { label: "Cumulative collective payoff", unit: "points" },
  cumulative_equality: { label: "Cumulative equality", unit: "games" },
  cumulative_minimum: { label: "Cumulative minimum", unit: "points" },
};

const metricOf = (name) => data.metrics[name] ?? RUNNING[name];
const typeColor = (place) => `var(--p${place % 12})`;

/** How a metric is written. */
function lookOf(name) {
  const { unit } = metricOf(name);
  return { percent: unit === "share", digits: unit === "coefficient" ? 3 : 2 };
}

/** Formatter and, for shares, the range of a chart of a metric. */
function axisLook(name) {
  const look = lookOf(name);
  if (look.percent) return { format: percent, range: [0, 1] };
  return { format: (value) => decimals(value, Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 100 ? 1 : look.digits) };
}

/** Points of a line chart from a curve's arrays; nothing where nothing was counted. */
function pointsOf(curve, runs) {
  return curve.mean.map((mean, i) => {
    if (mean === null) return null;
    const point = { mean, low: curve.low[i], high: curve.high[i] };
    if (runs && curve.runs) point.seeds = Object.fromEntries(runs.map((run, k) => [run, curve.runs[k][i]]).filter(([, v]) => v !== null));
    return point;
  });
}

/** A sample of a line as it is drawn in charts, for keys. */
function lineSample({ color, dash }) {
  const sample = svg("svg", { viewBox: "0 0 30 12", "aria-hidden": "true" });
  sample.append(svg("line", { class: "line", x1: 0, x2: 30, y1: 6, y2: 6, style: strokeOf({ color, dash }) }));
  return sample;
}

function fillKeys(name, entries) {
  for (const list of document.querySelectorAll(`[data-key=${name}]`)) {
    list.replaceChildren(...entries.map(({ label, ...look }) => {
      const item = html("li");
      item.append(lineSample(look), label);
      return item;
    }));
    list.hidden = entries.length < 2;
  }
}

/** A select with a title; `act` gets the value. */
function selectOf(title, values, value, act) {
  const label = html("label", "", title);
  const control = html("select");
  control.append(...values.map(([key, text]) => new Option(text, key)));
  control.value = value;
  control.addEventListener("change", () => act(control.value));
  label.append(control);
  return label;
}

/** Buttons of which one is pressed. */
function choiceOf(title, values, value, act) {
  const box = html("div", "subset");
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", title);
  const show = (chosen) => {
    for (const one of box.children) one.setAttribute("aria-pressed", String(one.dataset.value === chosen));
  };
  for (const [key, text] of values) {
    const one = button(text, "", () => { show(key); act(key); });
    one.dataset.value = key;
    box.append(one);
  }
  show(value);
  return box;
}
