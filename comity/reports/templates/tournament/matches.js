"use strict";
// The browser of transcripts. Texts come from models: they are only ever set as text content.

/** The class of a move: cooperation and defection have colors, other moves their own. */
function moveClass(name) {
  const word = name.trim().toLowerCase();
  if (word === "") return "illegal";
  if (/^(c|cooperate|stag|swerve|contribute)$/.test(word)) return "C";
  if (/^(d|defect|hare|straight|keep)$/.test(word)) return "D";
  return "other";
}

/** Matches with their rounds unpacked: `[{moves, payoffs, messages}]`. */
function unpackMatch(match, tables) {
  return match.rounds.map((outcome, i) => {
    const [moves, payoffs] = tables.outcomes[outcome];
    return {
      moves: moves.map((move) => tables.moves[move]),
      payoffs,
      messages: (match.messages?.[i] ?? []).map(([seat, text]) => [seat, tables.texts[text]]),
    };
  });
}

/** The places of the players on a match's seats. */
const seated = (match) => match.seats ?? [match.row, match.column];

/** "a vs b" of a pair; "2 × a, b" of a composition, in its parts. */
function parties(match) {
  if (!match.seats) return [`${players[match.row].name} `, `vs ${players[match.column].name}`];
  const counts = new Map();
  for (const place of match.seats) counts.set(place, (counts.get(place) ?? 0) + 1);
  return [...counts].sort(([a], [b]) => a - b).map(([place, count], i) => `${i ? ", " : ""}${count} × ${players[place].name}`);
}

const BOXES = 40;
/** A strip of up to so many rounds has a box for each. */
const MOVE_COLORS = { C: "var(--coop-line)", D: "var(--defect-line)", other: "var(--p5)", illegal: "var(--illegal)" };

function boxes(moves) {
  const strip = html("span", "strip");
  strip.append(...moves.map((move) => html("i", move)));
  return strip;
}

/** Many moves as one element: its background changes color where the moves change. */
function band(moves) {
  const strip = html("span", "band");
  const stops = [];
  moves.forEach((move, i) => {
    if (move === moves[i - 1]) return;
    const end = moves.findIndex((other, k) => k > i && other !== move);
    const place = (round) => `${((100 * round) / moves.length).toFixed(2)}%`;
    stops.push(`${MOVE_COLORS[move]} ${place(i)} ${place(end < 0 ? moves.length : end)}`);
  });
  strip.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  return strip;
}

/** A payoff with its sign: "+3", "+0.5", "−1". */
const gained = (value) => (value === null ? "" : `${value < 0 ? "" : "+"}${decimals(value, Number.isInteger(value) ? 0 : 2)}`);

/**
 * Fills the browser. `facts(row, column)` returns what stands above a pair's transcripts, or
 * nothing. Returns `open(row, column)`, which opens a pair, and `refresh()`, for changed facts.
 */
function startMatches(facts = () => null) {
  const tables = { ...data.matches, texts: decodeTable(data.matches.texts) };
  const { matches } = tables;
  const form = document.getElementById("filters");
  const list = document.getElementById("match-list");
  const view = document.getElementById("match");
  const above = document.getElementById("pair-facts");
  const PAGE = 100;
  let filtered = matches;
  let current = null;
  let limit = PAGE;
  const wanted = { row: "", column: "" };
  const isPair = () => wanted.row !== "" && wanted.column !== "";
  function refresh() {
    above.replaceChildren(...[isPair() ? facts(Number(wanted.row), Number(wanted.column)) : null].filter(Boolean));
  }
  if (!form) {
    const open = (row, column) => {
      Object.assign(wanted, { row: String(row), column: String(column) });
      refresh();
      toSection();
    };
    return { open, refresh };
  }

  // ---- filters ----------------------------------------------------------------------------
  const selects = {};
  const isSeated = Boolean(matches[0]?.seats);
  const titles = isSeated ? ["With", "and with"] : ["Row player", "Column player"];
  for (const [i, side] of ["row", "column"].entries()) {
    const label = html("label", "", titles[i]);
    const control = html("select");
    const places = [...new Set(matches.flatMap((match) => match.seats ?? [match[side]]))].sort((a, b) => a - b);
    control.append(new Option("any", ""), ...places.map((place) => new Option(players[place].name, place)));
    control.addEventListener("change", () => choosePair(selects.row.value, selects.column.value));
    selects[side] = control;
    label.append(control);
    form.append(label);
  }
  form.addEventListener("submit", (event) => event.preventDefault());

  /** Whether a match has the chosen players, on these seats or, of more than two, on any. */
  function isWanted(match) {
    const chosen = ["row", "column"].filter((side) => wanted[side] !== "");
    if (!match.seats) return chosen.every((side) => match[side] === Number(wanted[side]));
    const left = [...match.seats];
    return chosen.every((side) => {
      const at = left.indexOf(Number(wanted[side]));
      return at >= 0 && left.splice(at, 1).length > 0;
    });
  }

  function choosePair(row, column, isLink = false) {
    wanted.row = String(row);
    wanted.column = String(column);
    for (const side of ["row", "column"]) {
      const { [side]: control } = selects;
      // A player without transcripts can still be asked for, by a cell of the matrix.
      if (wanted[side] !== "" && ![...control.options].some((one) => one.value === wanted[side])) {
        control.append(new Option(players[wanted[side]].name, wanted[side]));
      }
      control.value = wanted[side];
    }
    filtered = matches.filter(isWanted);
    limit = PAGE;
    refresh();
    show(filtered[0] ?? null);
    if (isPair() && !isLink) {
      const link = new URLSearchParams({ row: players[row].name, column: players[column].name });
      history.replaceState(null, "", `#${link}`);
    }
  }

  // ---- list -------------------------------------------------------------------------------
  const seatsOf = (match) => tables.outcomes[match.rounds[0]]?.[0].length ?? 0;
  /** A strip of moves for each seat: boxes, or one band where there are many rounds. */
  function strips(match) {
    const box = html("span", "strips");
    for (let seat = 0; seat < seatsOf(match); seat += 1) {
      const moves = match.rounds.map((outcome) => moveClass(tables.moves[tables.outcomes[outcome][0][seat]] ?? ""));
      box.append(moves.length > BOXES ? band(moves) : boxes(moves));
    }
    return box;
  }
  function totals(match) {
    const sums = Array(seatsOf(match)).fill(0);
    for (const outcome of match.rounds) tables.outcomes[outcome][1].forEach((payoff, seat) => { sums[seat] += payoff ?? 0; });
    return sums;
  }
  const points = (value) => decimals(value, Number.isInteger(value) ? 0 : 2);
  function drawList() {
    const items = filtered.slice(0, limit).map((match, i) => {
      const item = html("div", "item");
      item.id = `item-${i}`;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", String(match === current));
      const row = html("span", "row");
      const [first, ...others] = parties(match);
      const who = breakable(html("span"), first);
      for (const other of others) breakable(who.appendChild(html("span")), other);
      row.append(who, html("span", "which", totals(match).map(points).join(" : ")));
      item.append(row, strips(match));
      item.addEventListener("click", () => show(match));
      return item;
    });
    const count = html("div", "count", countOf(filtered.length, "match"));
    list.replaceChildren(count, ...items);
    if (filtered.length > limit) {
      list.append(button(`Show ${Math.min(PAGE, filtered.length - limit)} more`, "more", () => { limit += PAGE; drawList(); }));
    }
    const at = filtered.indexOf(current);
    if (at >= 0) list.setAttribute("aria-activedescendant", `item-${at}`);
    else list.removeAttribute("aria-activedescendant");
  }
  /** Marks the chosen match without drawing the list anew. */
  function mark() {
    const at = filtered.indexOf(current);
    for (const item of list.querySelectorAll(".item")) item.setAttribute("aria-selected", String(item.id === `item-${at}`));
    if (at >= 0) list.setAttribute("aria-activedescendant", `item-${at}`);
  }
  list.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step || !filtered.length) return;
    event.preventDefault();
    move(step);
  });
  function move(step) {
    const at = Math.min(Math.max(filtered.indexOf(current) + step, 0), filtered.length - 1);
    if (at >= limit) limit += PAGE;
    show(filtered[at]);
    const item = list.querySelector("[aria-selected=true]");
    if (item) list.scrollTop += item.getBoundingClientRect().top - list.getBoundingClientRect().top - list.clientHeight / 2;
  }

  // ---- one match --------------------------------------------------------------------------
  let drawnFor = null;
  function show(match) {
    current = match;
    if (drawnFor !== filtered || !document.getElementById(`item-${filtered.indexOf(match)}`)) drawList();
    drawnFor = filtered;
    mark();
    drawMatch();
  }
  function drawMatch() {
    if (!current) {
      view.replaceChildren(html("p", "none", isPair() ? `No transcript of ${isSeated ? "these two" : "this pair"} is on the page.` : "No match fits these filters."));
      return;
    }
    const rounds = unpackMatch(current, tables);
    const seats = Math.max(...rounds.map((round) => round.moves.length), 1);
    const names = seated(current).map((place) => players[place].name);
    const head = html("header");
    const about = html("div");
    about.append(breakable(html("h3"), parties(current).join("")), html("p", "", `seed ${current.seed} · ${countOf(rounds.length, "round")}`));
    const steps = html("div", "steps");
    const at = filtered.indexOf(current);
    for (const [text, step] of [["← Previous", -1], ["Next →", 1]]) {
      const one = button(text, "", () => move(step));
      one.disabled = at + step < 0 || at + step >= filtered.length;
      steps.append(one);
    }
    head.append(about, steps);
    view.replaceChildren(head, drawRounds(rounds, seats, names, totals(current)));
  }
  function drawRounds(rounds, seats, names, sums) {
    const grid = html("div", `rounds${rounds.length > 24 && rounds.every((round) => !round.messages.length) ? " compact" : ""}`);
    grid.style.setProperty("--seats", seats);
    grid.append(html("span", "number", "round"));
    names.forEach((name, seat) => {
      const cell = breakable(html("div", "seat"), name);
      cell.append(html("small", "", `seat ${seat} · ${points(sums[seat] ?? 0)} points`));
      grid.append(cell);
    });
    rounds.forEach((round, i) => {
      const number = html("div", "number");
      number.append(html("b", "", i + 1));
      for (const [seat, text] of round.messages) grid.append(speech(seat, text, names));
      grid.append(number, ...names.map((_, seat) => moveBox(round, seat)));
    });
    return grid;
  }
  function speech(seat, text, names) {
    const row = html("div", "said-row");
    const bubble = html("div", `bubble speech ${seat > 0 ? "right" : ""}`);
    bubble.append(html("span", "said", text || "(blank)"), html("span", "did", `${names[seat] ?? `seat ${seat}`} says`));
    row.append(bubble);
    return row;
  }
  function moveBox(round, seat) {
    const move = round.moves[seat];
    const payoff = round.payoffs[seat] ?? null;
    const box = html("div", `bubble ${moveClass(move ?? "")} ${seat > 0 ? "right" : ""}`);
    box.append(html("span", "said", move || "no legal answer"), html("span", "did", gained(payoff)));
    return box;
  }

  // ---- links ------------------------------------------------------------------------------
  function toSection() {
    document.getElementById("transcripts").scrollIntoView();
    document.getElementById("transcripts-title").focus({ preventScroll: true });
  }
  /** Opens the pair that the address names, if it names one. */
  function follow() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const [row, column] = ["row", "column"].map((side) => players.findIndex((player) => player.name === asked.get(side)));
    if (row < 0 || column < 0) return false;
    choosePair(row, column, true);
    document.getElementById("transcripts").scrollIntoView();
    return true;
  }
  window.addEventListener("hashchange", follow);
  if (!follow()) choosePair("", "", true);
  const open = (row, column) => {
    choosePair(row, column);
    toSection();
  };
  return { open, refresh };
}
