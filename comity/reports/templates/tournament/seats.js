"use strict";
// Fills the page of a tournament of more than two seats.

function equipNumbers() {
  document.getElementById("save-agents").addEventListener("click", () => {
    const head = ["matches", "agent", "metric", "mean", "low", "high", "n", "note"];
    const rows = Object.entries(results).flatMap(([subset, found]) => found.agents.flatMap((agent, place) => data.metrics.flatMap((metric, m) => {
      const e = unpackEstimate(agent.estimates[m]);
      return e ? [[subset, players[place].name, metric.name, e.mean, e.low, e.high, e.n, e.note]] : [];
    })));
    saveFile(fileName(["all agents"], "csv"), "text/csv", csv([head, ...rows]));
  });
}

startMatches();
equipControls();
listeners.push((change) => {
  if ("metric" in change || "subset" in change) drawRanking();
});
drawRanking();
drawFocal();
drawTwo();
drawRatings();
drawSchelling();
equipSorting();
equipLongTables();
equipTables();
equipTerms();
equipNumbers();
equipCopying();
followSections();
