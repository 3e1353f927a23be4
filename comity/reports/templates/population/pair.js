"use strict";
// What only fixed pairs have: cumulative and relative payoffs, first and last joint moves, Q-values.

function drawPair() {
  const panels = document.getElementById("pair-panels");
  const unitCurves = data.curves.fixed.agents ?? data.curves.fixed.types;
  const curveOf = (agent, metric) => (data.curves.fixed.agents ? unitCurves[agent.index] : unitCurves[agent.type])[metric];
  const bothOf = (metric) => data.agents.map((agent, place) => ({ name: agentName(agent.index), color: typeColor(place), dash: place % 2 ? "7 4" : "", points: pointsOf(curveOf(agent, metric)) }));
  for (const metric of ["cooperation", "payoff_per_game", "cumulative_payoff", "reward_per_game", "cumulative_reward"]) {
    curveChart(panels, { metric, series: bothOf(metric) });
  }
  const relative = data.relative.fixed.map((one, place) => ({
    name: `${data.agents[one.agents[0]].label} minus ${data.agents[one.agents[1]].label}`, color: typeColor(place), points: pointsOf(one.relative_payoff),
  }));
  curveChart(panels, { metric: "cumulative_payoff", title: "Relative payoff", unit: "points", series: relative });
}

function drawEnds() {
  const box = document.getElementById("end-panels");
  const [own, other] = data.agents.length === 2 ? data.agents.map((agent) => agent.label) : ["first", "second"];
  for (const [end, title] of [["first", "First joint move"], ["last", "Last joint move"]]) {
    const part = html("div", "pair-matrix");
    box.append(part);
    part.append(html("h4", "", title));
    const panel = html("div");
    part.append(panel);
    heatMap(panel, title)({
      rows: [`${own} C`, `${own} D`], columns: [`${other} C`, `${other} D`], corner: "", name: [],
      cell: (i, k) => { const e = data.end_moves.fixed[end]["CD"[i] + "CD"[k]]; return isNumber(e.mean) ? e : null; },
      look: { percent: true, digits: 0, scale: "s", low: 0, high: 1 },
    });
  }
}

const MOVES = [{ label: "C", color: "var(--coop-line)" }, { label: "D", color: "var(--defect-line)", dash: "7 4" }];

function drawQValues() {
  const box = document.getElementById("q-panels");
  if (!box) return;
  fillKeys("moves", MOVES.map(({ label, ...look }) => ({ label: `value of ${label}`, ...look })));
  for (const [agent, states] of Object.entries(data.q_values.agents)) {
    box.append(html("h4", "", agentName(Number(agent))));
    const panels = html("div", "panels four");
    box.append(panels);
    for (const [state, actions] of Object.entries(states)) {
      const series = MOVES.filter(({ label }) => actions[label]).map(({ label, ...look }) => ({ name: label, ...look, points: pointsOf(actions[label]) }));
      lineChart(panels, { title: `${data.agents[agent].label}: ${stateName(state, Object.keys(states).length)}`, iterations: data.q_values.episodes, series, along: "episode", format: (v) => decimals(v, 2), isKeyed: true });
    }
  }
}

/** A state in words: the partner's latest move, with the own one, or with who the partner is. */
function stateName(state, count) {
  const place = Number(state);
  const name = data.q_values.states[place] ?? (count === 2 ? "CD"[place] : count === 4 ? "CD"[place >> 1] + "CD"[place & 1] : `state ${state}`);
  if (/^[CD]$/.test(name)) return `after the partner’s ${name}`;
  if (/^[CD]{2}$/.test(name)) return `after partner ${name[0]}, own ${name[1]}`;
  return `after ${name}`;
}
