"use strict";
// Curves over episodes: cooperation, joint moves, types and agents, social outcomes.

const conditionNames = Object.keys(data.conditions);
const mainCondition = conditionNames[0];
const labelOf = (condition) => data.conditions[condition].label;
const episodes = data.bins.ends;
const typeNames = data.types.map((type) => type.name);
const typePlace = (name) => typeNames.indexOf(name);
const windowLabel = (key) => data.windows.find((one) => one.key === key).label;

/** An agent's name: in a fixed pair with its partner's. */
function agentName(index) {
  const { label } = data.agents[index];
  if (mainCondition !== "fixed") return label;
  const partner = data.agents[index % 2 ? index - 1 : index + 1];
  return partner ? `${label} against ${partner.label}` : label;
}

const MANY_RUNS = 40;
/** A metric's curves in all conditions, of a unit of a level; with single runs where there are at most so many. */
function conditionSeries(level, unit, metric, mostRuns = 0) {
  return conditionNames.flatMap((condition) => {
    const curve = data.curves[condition][level]?.[unit]?.[metric];
    if (!curve || curve.mean.every((value) => value === null)) return [];
    const runs = condition === mainCondition && data.runs.length > 1 && data.runs.length <= mostRuns ? data.conditions[condition].runs : null;
    return [{ name: labelOf(condition), ...CONDITION_LOOKS[condition], points: pointsOf(curve, runs) }];
  });
}

/** A chart of a metric over episodes. */
function curveChart(container, { metric, title, unit, series, ...more }) {
  if (!series.length) return;
  const about = metricOf(metric);
  lineChart(container, {
    title: title ?? about.label, unit: unit ?? (about.unit === "share" ? "" : about.unit), iterations: episodes, series, along: "episode", each: "run",
    ...axisLook(metric), ...more,
  });
}

function drawCooperation() {
  const panels = document.getElementById("cooperation-panels");
  curveChart(panels, { metric: "cooperation", title: "Population", series: conditionSeries("population", "all", "cooperation", MANY_RUNS) });
  const types = typeNames.flatMap((name, place) => {
    const curve = data.curves[mainCondition].types[name].cooperation;
    return [{ name, color: typeColor(place), points: pointsOf(curve) }];
  });
  curveChart(panels, { metric: "cooperation", title: `By type, ${labelOf(mainCondition)}`, series: types });
}

const capitalized = (text) => text[0].toUpperCase() + text.slice(1);

function drawJoint() {
  const areas = document.getElementById("joint-areas");
  const panels = document.getElementById("joint-panels");
  const draw = (isMerged) => {
    const names = isMerged ? ["CC", "mixed", "DD"] : ["CC", "CD", "DC", "DD"];
    const called = (name) => (name === "mixed" ? "CD or DC" : name);
    areas.replaceChildren();
    panels.replaceChildren();
    for (const condition of conditionNames) {
      const whole = data.curves[condition].population.all;
      const known = episodes.map((_, i) => i).filter((i) => whole.joint_CC.mean[i] !== null);
      const layers = names.map((name) => ({ name: called(name), color: OUTCOME_COLORS[name], values: known.map((i) => whole[`joint_${name}`].mean[i]) }));
      if (known.length) stackedAreas(areas, { title: capitalized(labelOf(condition)), unit: "share of games", iterations: known.map((i) => episodes[i]), layers, along: "episode" });
    }
    for (const name of names) {
      curveChart(panels, { metric: `joint_${name}`, title: called(name), unit: "", series: conditionSeries("population", "all", `joint_${name}`), isKeyed: true });
    }
  };
  document.getElementById("joint-controls").append(choiceOf("CD and DC", [["apart", "CD and DC apart"], ["merged", "merged"]], "apart", (value) => draw(value === "merged")));
  draw(false);
}

const TYPE_METRICS = [
  "cooperation", "cooperative_selection", "payoff_per_game", "reward_per_game", "payoff_per_episode", "reward_per_episode",
  "cumulative_payoff", "cumulative_reward", "games_per_episode", "chosen_per_episode", "illegal_moves", "illegal_selections",
];

function startTypes() {
  const panels = document.getElementById("types-panels");
  const levels = data.curves[mainCondition];
  const known = TYPE_METRICS.filter((metric) => typeNames.some((name) => levels.types[name][metric]?.mean.some((v) => v !== null)));
  const state = { metric: "cooperation", level: "types" };
  // Where every type has one agent, the curve of the type is that of the agent.
  const hasAgents = Boolean(levels.agents);
  const draw = () => {
    panels.replaceChildren();
    const units = state.level === "types"
      ? typeNames.map((name) => [name, `${name}${data.types[typePlace(name)].count > 1 ? ` (mean of ${data.types[typePlace(name)].count})` : ""}`])
      : data.agents.map((agent) => [String(agent.index), agentName(agent.index)]);
    const charts = units.map(([unit, title]) => [title, conditionSeries(state.level, unit, state.metric, state.level === "types" ? 10 : 0)]);
    // One range for all panels, so that they can be compared, except where units have scales of their own.
    const { range } = axisLook(state.metric);
    const points = charts.flatMap(([, series]) => series.flatMap((s) => s.points.filter(Boolean)));
    const isOwn = state.metric.includes("reward");
    const common = range ?? (isOwn || !points.length ? undefined : padded(spanOf(points, [])));
    const metric = metricOf(state.metric).label.toLowerCase();
    for (const [title, series] of charts) curveChart(panels, { metric: state.metric, title: `${title}, ${metric}`, unit: "", series, isKeyed: true, range: common });
    const shared = isOwn ? " Every panel has a vertical axis of its own." : "";
    document.getElementById("types-definition").textContent = `${metricOf(state.metric).definition}${shared}`;
  };
  const change = (part) => (value) => { state[part] = value; draw(); };
  const controls = document.getElementById("types-controls");
  controls.append(selectOf("Metric", known.map((name) => [name, metricOf(name).label]), state.metric, change("metric")));
  if (hasAgents) controls.append(choiceOf("Level", [["types", "Types"], ["agents", "Agents"]], state.level, change("level")));
  draw();
}

const padded = ([low, high]) => {
  const pad = 0.05 * (high - low) || 0.5;
  return [low - pad, high + pad];
};

function drawOutcomes() {
  const panels = document.getElementById("outcome-panels");
  const draw = (isRunning) => {
    panels.replaceChildren();
    const names = isRunning ? ["cumulative_collective", "cumulative_equality", "cumulative_minimum"] : ["collective", "equality", "minimum", "gini"];
    for (const metric of names) curveChart(panels, { metric, series: conditionSeries("population", "all", metric), isKeyed: true });
  };
  document.getElementById("outcome-controls").append(choiceOf("Sums", [["each", "Per game"], ["sums", "Cumulative"]], "each", (value) => draw(value === "sums")));
  draw(false);
}

function drawUpdates() {
  const panels = document.getElementById("update-panels");
  for (const [name, { episodes: at, types }] of Object.entries(data.update_statistics)) {
    const series = Object.entries(types).map(([type, curve]) => ({ name: type, color: typeColor(typePlace(type)), points: pointsOf(curve) }));
    lineChart(panels, { title: name.replaceAll("_", " "), iterations: at, series, along: "episode", format: (value) => value.toPrecision(3).replace("-", "\u2212") });
  }
}
