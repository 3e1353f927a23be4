"use strict";
// Partner selection: curves, the matrix of who chooses whom, games per agent.

function drawSelectionCurves() {
  const panels = document.getElementById("selection-panels");
  const series = conditionSeries("population", "all", "cooperative_selection", MANY_RUNS);
  const chance = data.curves[mainCondition].population.all.chance_selection;
  if (chance) series.push({ name: `chance, ${labelOf(mainCondition)}`, color: "var(--ink)", isReference: true, points: pointsOf(chance) });
  curveChart(panels, { metric: "cooperative_selection", series });
  const counts = [["cooperators_available", "cooperator available", ""], ["cooperators_chosen", "cooperator chosen", "7 4"]].flatMap(([metric, name, dash]) => {
    const curve = data.curves[mainCondition].population.all[metric];
    return curve ? [{ name, color: dash ? "var(--p2)" : "var(--p7)", points: pointsOf(curve) }] : [];
  });
  curveChart(panels, { metric: "cooperators_available", title: `Selections, ${labelOf(mainCondition)}`, unit: `per episode, of ${data.agents.length}`, series: counts });
}

/** What the matrix, the networks and the games per agent show together. */
function startSelections() {
  const matrices = data.selections[mainCondition];
  const hasAgents = Boolean(matrices.last.agents) && data.types.length < data.agents.length;
  const state = { window: "last", level: "types", value: "share", condition: mainCondition };
  const draw = heatMap(document.getElementById("matrix-panel"), "Who chooses whom");
  const chances = {
    types: (i, k) => data.chance_types[i][k],
    agents: (i, k) => (i === k ? 0 : 1 / (data.agents.length - 1)),
  };
  const refresh = () => {
    const names = state.level === "types" ? typeNames : data.agents.map((agent) => agent.label);
    const share = cellsOf(data.selections[state.condition][state.window][state.level]);
    const chance = chances[state.level];
    // An agent that is the only one of its type has nobody of that type to choose.
    const known = (i, k) => (chance(i, k) > 0 ? share(i, k) : null);
    const times = (i, k) => {
      const e = known(i, k);
      return e && Object.fromEntries(["mean", "low", "high"].map((key) => [key, e[key] === null ? null : e[key] / chance(i, k)]));
    };
    const most = Math.max(...names.flatMap((_, i) => names.map((__, k) => known(i, k)?.mean ?? 0)));
    const isTimes = state.value === "times";
    draw({
      rows: names, columns: names, corner: "selector ↓ selected →", cell: isTimes ? times : known,
      look: isTimes ? { scale: "d", low: -2, high: 2, log: true, digits: 2 } : { percent: true, digits: 0, scale: "s", low: 0, high: most || 1 },
      name: [windowLabel(state.window), labelOf(state.condition), isTimes ? "times chance" : "share"],
      note: names.length > 12 ? "Intervals of cells are read out when a cell is pointed at or focused, and are in the CSV." : "",
    });
    drawNetworks(names, known, chance, state);
    drawGames(state);
  };
  const change = (part) => (value) => { state[part] = value; refresh(); };
  const controls = document.getElementById("matrix-controls");
  controls.append(selectOf("Episodes", data.windows.map((one) => [one.key, one.label]), state.window, change("window")));
  const others = Object.keys(data.selections);
  if (others.length > 1) controls.append(selectOf("Condition", others.map((name) => [name, labelOf(name)]), state.condition, change("condition")));
  if (hasAgents) controls.append(choiceOf("Level", [["types", "Types"], ["agents", "Agents"]], state.level, change("level")));
  controls.append(choiceOf("Value", [["share", "Share"], ["times", "Times chance"]], state.value, change("value")));
  refresh();
}

/** Games and selections of every agent; tenths of the training have no totals of their own. */
function drawGames({ window, condition }) {
  const panels = document.getElementById("games-panels");
  panels.replaceChildren();
  const key = data.totals[condition][window] ? window : "all";
  const totals = data.totals[condition][key].agents;
  if (data.agents.length > 64) panels.append(html("p", "none", "More than 64 agents: the table of types has the means."));
  else {
    for (const metric of ["games_per_episode", "chosen_per_episode"]) {
      const rows = data.agents.map((agent) => ({ name: agent.label, color: typeColor(typePlace(agent.type)), ...totals[agent.index][metric] })).filter((row) => isNumber(row.mean));
      if (rows.length) whiskers(panels, { title: metricOf(metric).label, unit: `${windowLabel(key)}, ${labelOf(condition)}`, rows, look: lookOf(metric), lines: metric === "chosen_per_episode" ? [{ name: "mean", at: 1 }] : [] });
    }
  }
}

/** Cooperation and payoff by own type and partner's type. */
function startInteractions() {
  const state = { window: "last", value: "cooperation", condition: mainCondition };
  const draw = heatMap(document.getElementById("interaction-panel"), "By own type and partner’s type");
  const refresh = () => {
    const found = data.interactions[state.condition][state.window];
    const isPayoff = state.value === "payoff";
    const all = conditionNames.flatMap((name) => data.interactions[name][state.window].payoff.mean.flat()).filter((v) => v !== null);
    draw({
      rows: typeNames, columns: typeNames, corner: "own type ↓ partner →", cell: cellsOf(found[state.value]),
      look: isPayoff ? { digits: 2, scale: "s", low: Math.min(...all), high: Math.max(...all) } : { percent: true, digits: 0, scale: "d", low: 0, high: 1 },
      name: [isPayoff ? "payoff per game" : "cooperation", windowLabel(state.window), labelOf(state.condition)],
      note: "“–”: no game.",
    });
  };
  const change = (part) => (value) => { state[part] = value; refresh(); };
  const controls = document.getElementById("interaction-controls");
  controls.append(
    selectOf("Value", [["cooperation", "Cooperation"], ["payoff", "Payoff per game"]], state.value, change("value")),
    selectOf("Episodes", data.windows.map((one) => [one.key, one.label]), state.window, change("window")),
  );
  if (conditionNames.length > 1) controls.append(selectOf("Condition", conditionNames.map((name) => [name, labelOf(name)]), state.condition, change("condition")));
  refresh();
}
