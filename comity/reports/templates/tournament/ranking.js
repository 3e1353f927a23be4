"use strict";
// The ranking of the agents by the chosen metric.

function drawRanking() {
  const panel = document.getElementById("ranking-panel");
  const look = chosenMetric();
  const rows = byMetric(state.metric)
    .map((place) => ({ name: players[place].name, ...agentEstimate(place, state.metric) }))
    .filter((row) => isNumber(row.mean));
  panel.replaceChildren();
  if (!rows.length) {
    panel.append(html("p", "none", `No agent has a value of ${look.label}.`));
    return;
  }
  const subset = Object.keys(results).length > 1 ? `, ${SUBSETS[state.subset].toLowerCase()}` : "";
  whiskers(panel, { title: look.label, unit: `${look.unit || data.over}${subset}`, rows, look, range: look.percent ? [0, 1] : null });
}
