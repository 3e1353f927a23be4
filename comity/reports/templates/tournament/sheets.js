"use strict";
// A sheet for each agent, filled when it is first opened.

const OPPONENTS = 3;
/** So many best and worst opponents are named. */

/** A table of a sheet or of a pair. */
function smallTable(titles, rows, name) {
  const table = html("table", `findings plain ${name}`);
  const head = html("tr");
  for (const title of titles) {
    const cell = html("th");
    cell.scope = "col";
    cell.append(title);
    head.append(cell);
  }
  table.createTHead().append(head);
  const body = table.createTBody();
  for (const cells of rows) {
    const row = html("tr");
    row.append(...cells);
    body.append(row);
  }
  return table;
}

function rowHead(content) {
  const cell = html("th");
  cell.scope = "row";
  cell.append(content);
  return cell;
}

/** A metric's name with its definition. */
function metricTerm(place) {
  const term = html("span", "term", data.metrics[place].label);
  term.dataset.define = `def-m${place}`;
  term.tabIndex = 0;
  return term;
}

/** Mean and interval of an estimate. */
function estimateCell(e, look) {
  if (!e || e.mean === null) return html("td", "none", e?.note ? `none: ${e.note}` : "none");
  const cell = html("td", "number");
  cell.dataset.values = JSON.stringify(e);
  cell.title = [`n = ${e.n}`, e.note].filter(Boolean).join("; ");
  cell.append(html("b", "", shown(e.mean, look)), html("small", "", shownSpan(e, look)));
  return cell;
}

function agentLink(place) {
  const link = html("a", "agent");
  link.href = `#agent-${place}`;
  return breakable(link, players[place].name);
}

/** Where a link to a pair's transcripts leads. */
function pairLink(row, column, openPair) {
  return button("transcripts", "link", () => openPair(row, column));
}

/** An interval on a bar over the metric's range. */
function barCell(e, look) {
  const cell = html("td", "bar");
  if (!e || e.mean === null) return cell;
  const place = (value) => Math.min(Math.max((value - look.low) / (look.high - look.low || 1), 0), 1);
  const bar = html("span", "interval");
  bar.setAttribute("aria-hidden", "true");
  if (isSpan(e)) {
    const span = html("i");
    span.style.left = `${100 * place(e.low)}%`;
    span.style.width = `${100 * (place(e.high) - place(e.low))}%`;
    bar.append(span);
  }
  const mark = html("u");
  mark.style.left = `calc(${place(e.mean)} * (100% - 4px))`;
  bar.append(mark);
  cell.append(bar);
  return cell;
}

/** The agent's payoff against each opponent, best first; those without a value are left out. */
function byOpponent(place, metric) {
  const direction = data.metrics[metric].better === "low" ? 1 : -1;
  return players
    .map((_, other) => [other, unpackEstimate(chosenResults().pair(place, other)?.estimates[metric])])
    .filter(([, e]) => e && e.mean !== null)
    .sort(([, a], [, b]) => direction * (a.mean - b.mean));
}

function fillSheet(sheet, openPair) {
  const place = Number(sheet.dataset.agent);
  const box = sheet.querySelector(".filled");
  const measured = data.metrics.map((look, metric) => [metric, look, agentEstimate(place, metric)]).filter(([, , e]) => e);
  const rank = (metric) => {
    const place_ = byMetric(metric).filter((other) => agentEstimate(other, metric)?.mean !== undefined).indexOf(place);
    return data.metrics[metric].better === "none" ? "" : `${place_ + 1} of ${players.length}`;
  };
  const rows = measured.map(([metric, look, e]) => [rowHead(metricTerm(metric)), estimateCell(e, look), barCell(e, look), html("td", "count", e.mean === null ? "" : rank(metric))]);
  const table = smallTable(["Metric", "Over all opponents", "", "Place"], rows, "sheet-metrics");
  table.tHead.rows[0].cells[2].dataset.csv = "interval";
  box.replaceChildren(inRegion(`${players[place].name}, metrics`, table));
  const metric = metricPlace;
  const met = byOpponent(place, metric);
  if (!met.length) return;
  const look = data.metrics[metric];
  const few = met.length <= 2 * OPPONENTS;
  const groups = few ? [["Opponents, best first", met]] : [["Best opponents", met.slice(0, OPPONENTS)], ["Worst opponents", met.slice(-OPPONENTS).reverse()]];
  const columns = html("div", "opponents-column");
  for (const [title, found] of groups) {
    const lines = found.map(([other, e]) => [rowHead(agentLink(other)), estimateCell(e, look), barCell(e, look), asCell(pairLink(place, other, openPair))]);
    const own = smallTable([title, look.label, "", ""], lines, "opponents");
    own.tHead.rows[0].cells[2].dataset.csv = "interval";
    own.tHead.rows[0].cells[3].dataset.csv = "open";
    columns.append(inRegion(`${players[place].name}, ${title.toLowerCase()}`, own));
  }
  box.append(columns);
  equipTables(box);
}

function asCell(content) {
  const cell = html("td");
  cell.append(content);
  return cell;
}

function inRegion(title, table) {
  const outer = html("div");
  const scroll = html("div", "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", title);
  scroll.append(table);
  outer.append(scroll);
  return outer;
}

/** Sheets are filled when they are opened, and anew when other matches count. */
function startSheets(openPair) {
  const sheets = [...document.querySelectorAll(".sheet")];
  for (const sheet of sheets) sheet.addEventListener("toggle", () => { if (sheet.open) fillSheet(sheet, openPair); });
  listeners.push((change) => {
    if (change.subset) for (const sheet of sheets.filter((one) => one.open)) fillSheet(sheet, openPair);
  });
  const follow = () => {
    const sheet = location.hash.startsWith("#agent-") && document.getElementById(location.hash.slice(1));
    if (!sheet) return;
    sheet.open = true;
    sheet.scrollIntoView();
    sheet.querySelector("summary").focus({ preventScroll: true });
  };
  window.addEventListener("hashchange", follow);
  // A link to the sheet that the address names already changes no address.
  document.addEventListener("click", (event) => { if (event.target.closest("a.agent")) setTimeout(follow); });
  if (players.length <= 3) for (const sheet of sheets) sheet.open = true;
  follow();
}
