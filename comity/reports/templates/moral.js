"use strict";
// Figures of action types and rewards.

/** Policies by study, where there are several: "game (random)" is the arm "game" of "random". */
function studies(policies) {
  const parts = Object.entries(policies).map(([name, one]) => [name.match(/ \(([^()]*)\)$/)?.[1] ?? "", name, one]);
  const names = [...new Set(parts.map(([group]) => group))];
  if (names.includes("")) return [["", policies]];
  return names.map((group) => [group, Object.fromEntries(parts.filter(([own]) => own === group).map(([, name, one]) => [name, one]))]);
}

function drawMoral() {
  const panels = document.getElementById("type-panels");
  if (!panels) return;
  const moral = Object.entries(data.moral);
  const layersOf = (types) => Object.entries(types).map(([name, values]) => ({ name, values }));
  for (const [title, one] of moral) {
    stackedAreas(panels, { title, unit: "share of answers", iterations: one.iteration, layers: layersOf(one.types) });
  }
  const seeds = document.getElementById("type-seed-panels");
  document.getElementById("type-seeds").addEventListener("toggle", () => {
    if (seeds.childElementCount) return;
    for (const [title, one] of moral) {
      for (const [seed, types] of Object.entries(one.types_per_seed)) {
        const layers = layersOf(types);
        if (!layers.length) continue;
        stackedAreas(seeds, { title: `${title}, seed ${seed}`, unit: "share of answers", iterations: one.iteration, layers });
      }
    }
  });
  const rewards = document.getElementById("reward-panels");
  const look = { range: [0, 1], format: percent };
  for (const [quantity, title, more] of [
    ["normalized", "Normalized reward", look],
    ["regret", "Normalized regret", look],
    ["reward", "Reward", { format: (value) => decimals(value, 2) }],
  ]) {
    for (const [group, policies] of studies(data.moral)) {
      const lines = curvesOf(policies, quantity);
      for (const one of lines.series) one.name = one.name.replace(` (${group})`, "");
      const named = group ? `${title}, ${group}` : title;
      if (lines.series.length) lineChart(rewards, { title: named, unit: "per decision", ...more, ...lines });
    }
  }
}
