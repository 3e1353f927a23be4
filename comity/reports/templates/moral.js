"use strict";
// Figures of action types and rewards.

/** Policies by their study; the runs that belong to none, or the only study, together as "". */
function studies(policies) {
  const entries = Object.entries(policies);
  const names = [...new Set(entries.map(([, one]) => one.study))];
  return names.map((study) => [study, Object.fromEntries(entries.filter(([, one]) => one.study === study))]);
}

function drawMoral() {
  const panels = document.getElementById("type-panels");
  if (!panels) return;
  const moral = Object.entries(data.moral);
  const layersOf = (types) => Object.entries(types).map(([name, values]) => ({ name, values }));
  for (const [title, one] of moral) {
    stackedAreas(panels, { title, unit: "share of answers", iterations: one.iteration, layers: layersOf(one.action_types) });
  }
  const seeds = document.getElementById("type-seed-panels");
  document.getElementById("type-seeds").addEventListener("toggle", () => {
    if (seeds.childElementCount) return;
    for (const [title, one] of moral) {
      for (const [seed, types] of Object.entries(one.action_types_per_seed)) {
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
    for (const [study, policies] of studies(data.moral)) {
      const lines = curvesOf(policies, quantity);
      for (const one of lines.series) one.name = one.name.replace(` (${study})`, "");
      const named = study ? `${title}, ${study}` : title;
      if (lines.series.length) lineChart(rewards, { title: named, unit: "per decision", ...more, ...lines });
    }
  }
}
