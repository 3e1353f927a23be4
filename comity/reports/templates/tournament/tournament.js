"use strict";
// Fills the page of a tournament.

/** What stands above the transcripts of a pair: all of its metrics. */
function pairFacts(row, column) {
  const pair = chosenResults().pair(row, column);
  const box = html("div", "pair");
  const title = breakable(html("h3"), `${players[row].name} against ${players[column].name}`);
  const back = button("Back to the matrix", "", () => backToCell(row, column));
  const head = html("div", "pair-head");
  head.append(title, back);
  box.append(head);
  if (!pair) {
    box.append(html("p", "none", "This pair was not played."));
    return box;
  }
  const facts = html("dl", "setting");
  const add = (term, mean, more) => {
    const one = html("div");
    const name = html("dt");
    name.append(term);
    const value = html("dd", "", "");
    value.append(html("b", "", mean), more ? html("small", "", ` ${more}`) : "");
    one.append(name, value);
    facts.append(one);
  };
  data.metrics.forEach((look, metric) => {
    const e = unpackEstimate(pair.estimates[metric]);
    if (e && e.mean !== null) add(metricTerm(metric), shown(e.mean, look), shownSpan(e, look));
  });
  add("Matches", String(pair.matches), pair.isIdentical ? "all identical" : "");
  box.append(facts);
  return box;
}

let backToCell = () => {};

/** All estimates as one long table: a row for each pair or agent and metric. */
function longRows(keys, found) {
  const head = ["matches", ...keys, "metric", "mean", "low", "high", "n", "note"];
  const rows = Object.entries(results).flatMap(([subset, one]) => found(one).flatMap(({ names, estimates }) => data.metrics.flatMap((metric, place) => {
    const e = unpackEstimate(estimates[place]);
    return e ? [[subset, ...names, metric.name, e.mean, e.low, e.high, e.n, e.note]] : [];
  })));
  return [head, ...rows];
}

function equipNumbers() {
  const pairs = (one) => one.pairs.map((pair) => ({ names: [players[pair.row].name, players[pair.column].name], estimates: pair.estimates }));
  const agents = (one) => one.agents.map((agent, place) => ({ names: [players[place].name], estimates: agent.estimates })).filter(Boolean);
  const save = (id, name, rows) => document.getElementById(id).addEventListener("click", () => saveFile(fileName([name], "csv"), "text/csv", csv(rows())));
  save("save-pairs", "all pairs", () => longRows(["row", "column"], pairs));
  save("save-agents", "all agents", () => longRows(["agent"], agents));
}

/** On paper a matrix of many has colors only, and the sheets of few are open. */
function equipPrinting() {
  let before = null;
  window.addEventListener("beforeprint", () => {
    before = { cells: state.cells, open: [...document.querySelectorAll(".sheet")].filter((sheet) => !sheet.open && players.length <= 12) };
    for (const sheet of before.open) sheet.open = true;
    if (players.length > WIDE) setState({ cells: players.length > 14 ? "color" : "mean" });
  });
  window.addEventListener("afterprint", () => {
    for (const sheet of before?.open ?? []) sheet.open = false;
    if (before) setState({ cells: before.cells });
  });
}

const { open: openPair, refresh: refreshFacts } = startMatches(pairFacts);
equipControls();
listeners.push((change) => {
  if ("metric" in change || "subset" in change) drawRanking();
  if ("subset" in change) refreshFacts();
});
drawRanking();
drawRatings();
drawSimplex();
drawSchelling();
// After the figures, which ask for their width: the page is laid out once with all of its cells.
backToCell = startMatrix(openPair);
startSheets(openPair);
equipSorting();
equipLongTables();
equipTables();
equipTerms();
equipNumbers();
equipPrinting();
equipCopying();
followSections();
