"use strict";
// Curves of split games.

const MAIN = ["payoff", "percent_of_max", "stock_claimed", "claim_higher", "claim_equal", "claim_lower", "agreement", "over_claimed"];

/** How values are written, and the range that they are drawn in; what is rare is seen larger. */
function lookOf(name, unit, highest) {
  const format = unit === "share" ? percent : (value) => decimals(value, highest < 20 ? 2 : 1);
  if (unit === "share" && MAIN.includes(name)) return { range: [0, 1], format };
  return unit === "points" ? { format } : { range: [0, 1.1 * highest || 1], format };
}

/** What stands behind a statistic's title. */
const perWhat = { share: "", points: "per round", units: "units", characters: "characters", tokens: "tokens", number: "per answer" };
const perName = { messages: "per round" };

function drawNegotiation() {
  const panels = document.getElementById("negotiation-panels");
  if (!panels) return;
  const { policies, definitions } = data.negotiation;
  const flat = Object.fromEntries(Object.entries(policies).map(([name, p]) => [name, { iteration: p.iteration, ...p.curves }]));
  const names = Object.keys(definitions).filter((name) => Object.values(policies).some((p) => p.curves[name]));
  const draw = (container, name) => {
    const lines = curvesOf(flat, name);
    for (const [title, values] of Object.entries(data.expected_payoffs)) {
      if (values[name] === undefined) continue;
      const point = { mean: values[name], low: values[name], high: values[name] };
      lines.series.push({ name: title, color: "var(--soft)", isReference: true, points: lines.iterations.map(() => point) });
    }
    const { title, unit } = definitions[name];
    const highest = Math.max(...lines.series.flatMap((s) => s.points.filter(Boolean).map((p) => p.mean)));
    lineChart(container, { title, unit: perName[name] ?? perWhat[unit], ...lookOf(name, unit, highest), ...lines });
  };
  for (const name of names.filter((n) => MAIN.includes(n))) draw(panels, name);

  const box = document.getElementById("manners");
  const rest = names.filter((n) => !MAIN.includes(n));
  const isZero = (name) => Object.values(policies).every((p) => (p.curves[name] ?? []).every((e) => !e || e.mean === 0));
  const always = rest.filter(isZero).map((name) => definitions[name].title.toLowerCase());
  document.getElementById("manners-zero").textContent = always.length ? `Always 0: ${always.join(", ")}.` : "";
  box.hidden = rest.length === 0;
  // Drawn when they are first shown: a closed panel has no width.
  box.addEventListener("toggle", () => {
    const inner = document.getElementById("manners-panels");
    if (inner.childElementCount) return;
    for (const name of rest.filter((n) => !isZero(n))) draw(inner, name);
  });
}
