"use strict";
// Fills the page from the embedded data.

const data = JSON.parse(document.getElementById("summary-data").textContent);
const policyNames = Object.keys(data.policies);
const policyColor = (name) => `var(--p${Math.max(0, policyNames.indexOf(name)) % 12})`;

for (const dot of document.querySelectorAll(".dot[data-policy]")) {
  dot.style.background = policyColor(dot.dataset.policy);
}

/** All policies' curves of one quantity on one list of iterations. */
const curves = (quantity) => curvesOf(data.learning, quantity);

function curvesOf(policies, quantity) {
  const learning = Object.entries(policies).filter(([, l]) => l[quantity]);
  const iterations = [...new Set(learning.flatMap(([, l]) => l.iteration))].sort((a, b) => a - b);
  const series = learning.map(([name, l]) => {
    const at = new Map(l.iteration.map((iteration, i) => [iteration, l[quantity][i]]));
    return { name, color: policyColor(name), points: iterations.map((i) => at.get(i)) };
  });
  return { iterations, series: series.filter((s) => s.points.some(Boolean)) };
}

function drawLearning() {
  const panels = document.getElementById("learning-panels");
  if (!panels) return;
  const two = (value) => decimals(value, 2);
  const cooperation = curves("cooperation");
  if (cooperation.series.length) {
    lineChart(panels, { title: "Cooperation", unit: "share of legal answers", range: [0, 1], format: percent, ...cooperation });
  }
  // The curves of split games stand in their own section.
  const chosen = Object.fromEntries(Object.entries(data.learning).filter(([name]) => !data.negotiation.policies?.[name]));
  const payoff = curvesOf(chosen, "payoff");
  if (payoff.series.length) lineChart(panels, { title: "Payoff", unit: "per round", format: two, ...payoff });
  drawAgainst(panels);
  const health = document.getElementById("health-panels");
  const drawn = [
    { quantity: "illegal", title: "Illegal answers", unit: "share of all answers", range: [0, 1], format: percent },
    { quantity: "reward", title: "Reward", unit: "per decision", format: two },
    { quantity: "entropy", title: "Entropy", unit: "nats per decision", format: two },
    { quantity: "kl", title: "KL to the base model", unit: "nats", format: (v) => decimals(v, 3) },
    { quantity: "gradient_norm", title: "Gradient norm", unit: "before clipping", format: two },
  ];
  const draw = () => {
    if (health.childElementCount) return;
    for (const { quantity, ...look } of drawn) {
      const lines = curves(quantity);
      if (lines.series.length) lineChart(health, { ...look, ...lines });
    }
    drawFurther(health);
  };
  // Drawn when they are first shown: a closed panel has no width.
  const box = document.getElementById("health");
  box.addEventListener("toggle", draw);
  if (box.open) draw();
}

/** The metrics that runs have by name (METRICS of comity.evaluation.metrics, and the user's own). */
function drawFurther(panels) {
  const found = Object.entries(data.learning).filter(([, l]) => l.metrics);
  for (const name of new Set(found.flatMap(([, l]) => Object.keys(l.metrics)))) {
    const policies = found.map(([policy, l]) => [policy, { iteration: l.iteration, [name]: l.metrics[name] }]);
    const lines = curvesOf(Object.fromEntries(policies), name);
    const title = (name[0].toUpperCase() + name.slice(1)).replaceAll("_", " ");
    if (lines.series.length) lineChart(panels, { title, unit: "learners' decisions", format: (value) => decimals(value, 2), ...lines });
  }
}

/** Payoff and cooperation against each kind of opponent, if there are several. */
function drawAgainst(panels) {
  const kinds = [
    ["live", "learners"], ["past", "past checkpoints"], ["scripted", "scripted players"],
    ["frozen", "frozen policies"], ["human", "humans"],
  ];
  const looks = [
    ["payoff", "Payoff", { unit: "per round", format: (value) => decimals(value, 2) }],
    ["cooperation", "Cooperation", { range: [0, 1], format: percent }],
  ];
  const own = html("div", "panels two");
  for (const [kind, called] of kinds) {
    for (const [quantity, title, look] of looks) {
      const found = Object.entries(data.learning).filter(([, l]) => l.by_opponent?.[kind]);
      const policies = found.map(([name, l]) => [name, { iteration: l.iteration, [quantity]: l.by_opponent[kind][quantity] }]);
      const lines = curvesOf(Object.fromEntries(policies), quantity);
      if (!lines.series.length) continue;
      // On the page before it is drawn: the panel's width is asked for.
      if (!own.isConnected) {
        panels.after(html("h3", "", "By kind of opponent"), html("p", "lead", "All learners of a run together. Mean over seeds; bands are intervals over seeds."), own);
      }
      lineChart(own, { title: `${title} against ${called}`, ...look, ...lines });
    }
  }
}

function drawOutcomes() {
  const panels = document.getElementById("outcome-panels");
  if (!panels) return;
  for (const [title, shares] of Object.entries(data.outcomes)) {
    if (data.negotiation.policies?.[title]) continue;
    if (!shares.iteration) {
      panels.append(html("p", "none", `${title}: joint outcomes are defined for two seats with two moves each.`));
      continue;
    }
    const layers = ["CC", "CD", "DC", "DD", "illegal"].map((name) => ({ name, values: shares[name] }));
    stackedAreas(panels, { title, unit: "share of rounds", iterations: shares.iteration, layers });
  }
}

drawLearning();
drawOutcomes();
drawMoral();
drawNegotiation();
followSections();
startBrowser(JSON.parse(document.getElementById("match-data").textContent));
