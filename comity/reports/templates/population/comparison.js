"use strict";
// Fills the page that compares populations.

const conditionNames = Object.keys(data.conditions);
const populations = data.populations;
const allTypes = [...new Set(populations.flatMap((one) => one.types.map((type) => type.name)))];

/** One condition at a time in all tables. */
function startConditions() {
  const show = (name) => { for (const one of document.querySelectorAll("[data-condition]")) one.hidden = one.dataset.condition !== name; };
  const box = document.querySelector("[data-conditions]");
  if (conditionNames.length > 1) box.append(choiceOf("Condition", Object.entries(data.conditions), conditionNames[0], show));
  return () => show(conditionNames[0]);
}

/** Payoffs of the selfish learner, population by population, in every condition. */
function drawSelfish() {
  const panels = document.getElementById("selfish-panels");
  if (!panels) return;
  for (const metric of ["payoff_per_game", "payoff_per_episode"]) {
    // One axis for all conditions, so that they can be compared.
    const all = data.selfish.rows.flatMap((row) => Object.values(row.conditions).map((one) => one[metric])).filter((e) => isNumber(e?.mean));
    const range = axisOf(all, undefined, [], false);
    for (const condition of conditionNames) {
      const rows = data.selfish.rows.filter((row) => row.conditions[condition]?.[metric]).map((row) => ({
        name: `${populations[row.population].name}${row.count > 1 ? `, mean of ${row.count} S` : ""}`,
        color: { prosocial: "var(--p2)", antisocial: "var(--p3)", selfish: "var(--p1)" }[row.character] ?? "var(--p7)",
        ...row.conditions[condition][metric],
      })).filter((row) => isNumber(row.mean));
      if (rows.length) whiskers(panels, { title: `${metricOf(metric).label} of S`, unit: data.conditions[condition], rows, range, look: lookOf(metric) });
    }
  }
}

function drawCurves() {
  const panels = document.getElementById("curve-panels");
  fillKeys("conditions", conditionNames.map((name) => ({ label: data.conditions[name], ...CONDITION_LOOKS[name] })));
  populations.forEach((one, place) => {
    const series = Object.entries(data.curves[place]).map(([condition, { cooperation }]) => ({ name: data.conditions[condition], ...CONDITION_LOOKS[condition], points: pointsOf(cooperation) }));
    lineChart(panels, { title: one.name, iterations: one.bins.ends, series, along: "episode", isKeyed: true, ...axisLook("cooperation") });
  });
}

const HEAT_METRICS = ["payoff_per_game", "payoff_per_episode", "cumulative_payoff", "reward_per_game", "reward_per_episode", "cumulative_reward", "cooperation", "cooperative_selection", "chosen_per_episode", "games_per_episode"];

/** How cells of a metric are colored: shares from 0 to 1, others over what is shown. */
function heatLook(metric, values) {
  const look = lookOf(metric);
  if (metric === "cooperation") return { ...look, scale: "d", low: 0, high: 1 };
  if (look.percent) return { ...look, scale: "s", low: 0, high: 1 };
  const most = Math.max(...values.map(Math.abs), 0);
  const digits = most >= 1000 ? 0 : look.digits;
  return { ...look, digits, scale: "s", low: Math.min(...values), high: Math.max(...values) };
}

function startTypesHeat() {
  const state = { metric: "payoff_per_game", condition: conditionNames[0] };
  const draw = heatMap(document.getElementById("types-panel"), "Types across populations");
  const cellOf = (i, k) => {
    const e = data.types[i][state.condition]?.[allTypes[k]]?.[state.metric];
    return e && isNumber(e.mean) ? e : null;
  };
  const refresh = () => {
    const values = populations.flatMap((_, i) => allTypes.map((__, k) => cellOf(i, k)?.mean)).filter(isNumber);
    draw({
      rows: populations.map((one) => one.name), columns: allTypes, corner: "population ↓ type →", cell: cellOf,
      look: heatLook(state.metric, values.length ? values : [0]), name: [metricOf(state.metric).label, data.conditions[state.condition]],
      note: metricOf(state.metric).definition,
    });
  };
  const change = (part) => (value) => { state[part] = value; refresh(); };
  const known = HEAT_METRICS.filter((metric) => data.types.some((one) => Object.values(one).some((types) => Object.values(types).some((found) => isNumber(found[metric]?.mean)))));
  const controls = document.getElementById("types-controls");
  controls.append(selectOf("Metric", known.map((name) => [name, metricOf(name).label]), state.metric, change("metric")));
  if (conditionNames.length > 1) controls.append(selectOf("Condition", Object.entries(data.conditions), state.condition, change("condition")));
  refresh();
}

const PAIR_METRICS = {
  cooperation: "Cooperation of the row’s player", payoff_per_game: "Payoff per game", reward_per_game: "Intrinsic reward per game", cumulative_payoff: "Cumulative payoff",
  cumulative_reward: "Cumulative intrinsic reward", last_CC: "Last joint move CC", last_DD: "Last joint move DD",
  ...Object.fromEntries(["learned", "best_response", "optimum", "below_best_response", "below_optimum"].filter((name) => data.metrics[name]).map((name) => [name, data.metrics[name].label])),
};

function startPairs() {
  const panel = document.getElementById("pairs-panel");
  if (!panel) return;
  const rows = allTypes.filter((name) => data.pairs[name]);
  const columns = allTypes.filter((name) => rows.some((row) => data.pairs[row][name]));
  const draw = heatMap(panel, "All pairs");
  const refresh = (metric) => {
    const cellOf = (i, k) => {
      const e = data.pairs[rows[i]][columns[k]]?.[metric];
      return e && isNumber(e.mean) ? e : null;
    };
    const values = rows.flatMap((_, i) => columns.map((__, k) => cellOf(i, k)?.mean)).filter(isNumber);
    const look = metric.startsWith("last") ? { percent: true, digits: 0, scale: "s", low: 0, high: 1 } : heatLook(metric, values);
    draw({ rows, columns, corner: "own type ↓ partner →", cell: cellOf, look, name: [PAIR_METRICS[metric]], note: "“–”: this pair is not among the populations." });
  };
  document.getElementById("pairs-controls").append(selectOf("Metric", Object.entries(PAIR_METRICS), "cooperation", refresh));
  refresh("cooperation");
}

const showFirst = startConditions();
drawSelfish();
startPairs();
drawCurves();
startTypesHeat();
equipSorting();
equipTables();
showFirst();
equipTerms();
equipCopying();
followSections();
document.getElementById("save-summary").addEventListener("click", () => saveFile("summary.json", "application/json", JSON.stringify(data)));
