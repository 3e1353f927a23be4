"use strict";
// A match of a split game as a conversation: the instance, the messages, the claims and the
// allocation. Texts come from models: they are only ever set as text content.

const SHOWN_OF_A_MESSAGE = 700;
const plain = (value) => decimals(value, Number.isInteger(value) ? 0 : 1);
const sum = (values) => values.reduce((total, value) => total + value, 0);
const isSettling = (d) => d.kind === "claim" || d.kind === "respond";
/** What a round came to for a seat: its claim or response, or its last message where somebody
    wrote one too many, which ended the round. */
const isLast = (d) => isSettling(d) || (d.kind === "message" && d.stock.length > 0);

/** Decisions by round: all in order, those that settle it by seat, items claimed beyond stock. */
function splitRounds(decisions) {
  const rounds = new Map();
  for (const d of decisions) {
    if (!rounds.has(d.round)) rounds.set(d.round, []);
    rounds.get(d.round).push(d);
  }
  return [...rounds].map(([number, all]) => {
    const settling = all.filter(isSettling).sort((a, b) => a.seat - b.seat);
    const dealt = all.filter(isLast).sort((a, b) => a.seat - b.seat);
    const stock = settling[0]?.stock ?? [];
    const claims = settling.map((d) => d.claim).filter((claim) => claim.length);
    const over = stock.map((_, i) => i).filter((i) => sum(claims.map((claim) => claim[i])) > stock[i]);
    return { number, all, settling, dealt, stock, claims, over };
  });
}

/** The share of the stock that each seat claimed, round by round, as strips. */
function claimStrips(decisions, seats) {
  const box = document.createDocumentFragment();
  for (let seat = 0; seat < seats; seat += 1) {
    const row = html("span", "strip");
    for (const d of decisions.filter((x) => isLast(x) && x.seat === seat)) {
      const mark = html("i", d.move < 0 || !d.claim.length ? "" : "claim");
      if (d.claim.length) mark.style.setProperty("--share", sum(d.claim) / (sum(d.stock) || 1));
      row.append(mark);
    }
    box.append(row);
  }
  return box;
}

/** All rounds of a match; `toggle(d)` is called when a decision is to be opened or closed. */
function splitMatch(match, decisions, openDecision, toggle) {
  const box = html("div", "talks");
  const rounds = splitRounds(decisions);
  const items = rounds.find((r) => r.stock.length)?.stock.map((_, i) => match.items?.[i] ?? `item ${i + 1}`) ?? [];
  const totals = match.players.map((_, seat) => sum(decisions.filter((d) => d.seat === seat && d.kind !== "followup").map((d) => d.payoff ?? 0)));
  const sides = html("div", "sides");
  match.players.forEach((player, seat) => {
    const side = html("span", seat > 0 ? "right" : "", player);
    side.append(html("small", "", `seat ${seat} · ${plain(totals[seat])} points`));
    sides.append(side);
  });
  box.append(sides);
  for (const round of rounds) {
    const part = html("section", "talk");
    const title = html("h4", "", `Round ${round.number + 1}`);
    part.append(title);
    if (round.stock.length) part.append(dealTable(round, items, match.players));
    for (const d of round.all.filter((x) => !isSettling(x))) {
      part.append(speech(d, match.players, openDecision, toggle));
      if (d.index === openDecision) part.append(decisionBox(d));
    }
    const claims = html("div", "claims");
    claims.style.setProperty("--seats", match.players.length);
    for (const d of round.settling) claims.append(claimButton(d, match.players, items, openDecision, toggle));
    part.append(claims);
    const opened = round.settling.find((d) => d.index === openDecision);
    if (opened) part.append(decisionBox(opened));
    part.append(outcome(round, items));
    box.append(part);
  }
  return box;
}

/** The stock, and the value of a unit to each seat. */
function dealTable(round, items, players) {
  const table = html("table", "deal");
  const head = html("tr");
  head.append(html("td"));
  items.forEach((item, i) => head.append(html("th", "", `${plain(round.stock[i])} ${item}`)));
  table.append(head);
  for (const d of round.dealt) {
    const row = html("tr");
    row.append(html("th", "", `value to ${speaker(d, players)}`));
    d.values.forEach((value) => row.append(html("td", "", plain(value))));
    table.append(row);
  }
  const scroll = html("div", "scroll");
  scroll.append(table);
  return scroll;
}
/** A seat's name, distinguished from another seat of the same name. */
function speaker(d, players) {
  const isAlone = players.filter((player) => player === players[d.seat]).length === 1;
  return isAlone ? d.player : `${d.player}, seat ${d.seat}`;
}

function opening(d, className, openDecision, toggle) {
  const button = html("button", `${className} ${d.seat > 0 ? "right" : ""} ${d.move < 0 ? "broken" : ""}`);
  button.type = "button";
  button.dataset.decision = d.index;
  button.setAttribute("aria-expanded", String(d.index === openDecision));
  button.addEventListener("click", () => toggle(d));
  return button;
}
/** How an answer came about, where that was not at once. */
function notes(d) {
  const parts = [];
  if (d.move < 0) parts.push(d.parse_status === "exceeded" ? "message beyond the limit" : "illegal");
  if (d.attempts > 1) parts.push(`attempt ${d.attempts}`);
  if (d.constrained) parts.push("constrained");
  return parts;
}
/** A message as a speech bubble; a thought or a failed try looks like what it is. */
function speech(d, players, openDecision, toggle) {
  const isMessage = d.kind === "message";
  const button = opening(d, `bubble speech ${isMessage ? "" : "aside"}`, openDecision, toggle);
  const text = isMessage && d.move >= 0 ? d.message_as_read : d.message_as_read || d.text;
  const letters = Array.from(text);
  const who = [`${speaker(d, players)}${isMessage ? "" : `: ${ASIDES[d.kind] ?? d.kind}`}`, ...(isMessage ? notes(d) : [])];
  const said = html("span", "said", letters.length > SHOWN_OF_A_MESSAGE ? `${letters.slice(0, SHOWN_OF_A_MESSAGE).join("")}…` : text || "(empty message)");
  button.append(html("span", "did", who.join(" · ")), said);
  if (letters.length > SHOWN_OF_A_MESSAGE) {
    button.append(html("span", "did", `${letters.length.toLocaleString("en")} characters; open to read all`));
  }
  return button;
}
function claimButton(d, players, items, openDecision, toggle) {
  const button = opening(d, "bubble settled", openDecision, toggle);
  const amounts = (units) => units.map((n, i) => `${plain(n)} ${items[i]}`).join(", ");
  let what = d.move < 0 ? d.text.trim().slice(0, 200) || "(blank)" : `claims ${amounts(d.claim)}`;
  if (d.kind === "respond" && d.move >= 0) what = d.move === 0 ? "accepts" : "rejects";
  else if (d.move >= 0 && !d.claim.length) what = "claim not counted";
  button.append(
    html("span", "did", [speaker(d, players), ...notes(d)].join(" · ")),
    html("span", "said", what),
    html("span", "got", `got ${amounts(d.allocation)} · ${plain(d.payoff ?? 0)} points`));
  return button;
}
/** The joint payoff, and claims beyond the stock. */
function outcome(round, items) {
  const paid = sum(round.settling.map((d) => sum(d.allocation.map((units, i) => units * d.values[i]))));
  const best = round.settling[0]?.max_welfare;
  const parts = [];
  if (best) parts.push(`joint payoff ${plain(paid)} of ${plain(best)} points (${percent(paid / best)})`);
  for (const i of round.over) {
    parts.push(`${plain(sum(round.claims.map((claim) => claim[i])))} of ${plain(round.stock[i])} ${items[i]} claimed`);
  }
  return html("p", "together", parts.join(" · "));
}
