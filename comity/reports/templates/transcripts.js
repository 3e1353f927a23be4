"use strict";
// The browser of transcripts. Texts come from models: they are only ever set as text content.

const letter = (move) => (move < 0 ? "?" : move === 0 ? "C" : move === 1 ? "D" : String(move));
const nicely = (value, digits = 2) => (value === null ? "none" : decimals(value, digits));
const matchKey = (m) =>
  m.opponent === undefined
    ? `${m.policy}/${m.seed}/${m.iteration}/${m.match}`
    : `${m.policy}|${m.opponent}/${m.seed}/${m.match}`;

/** What came before the answer that counts. */
const ASIDES = { think: "thought", attempt: "failed attempt" };

/** Decisions that stand beside each other, one a seat: thoughts and failed tries, then answers. */
function alignedRows(decisions) {
  const rows = new Map();
  const order = [...decisions].sort((a, b) => a.round - b.round || a.step - b.step || !ASIDES[a.kind] - !ASIDES[b.kind] || a.index - b.index);
  const counts = new Map();
  for (const d of order) {
    const group = `${d.round}.${d.step}.${ASIDES[d.kind] ? "aside" : "answer"}`;
    const place = `${group}.${d.seat}`;
    counts.set(place, (counts.get(place) ?? 0) + 1);
    const key = `${group}.${counts.get(place)}`;
    if (!rows.has(key)) rows.set(key, []);
    rows.get(key).push(d);
  }
  return [...rows.values()];
}

function startBrowser(packed) {
  const tables = { ...packed, texts: decodeTable(packed.texts), ids: decodeTable(packed.ids) };
  const column = Object.fromEntries(packed.columns.map((name, i) => [name, i]));
  const matches = packed.matches;
  const list = document.getElementById("match-list");
  const view = document.getElementById("match");
  const form = document.getElementById("filters");
  const PAGE = 100;
  let filtered = [];
  let limit = PAGE;
  let current = null;
  let openDecision = null;

  // ---- filters --------------------------------------------------------------------------
  const kinds = [...new Set(matches.map((m) => (m.opponent === undefined ? "training" : "cross-play")))];
  const selects = {
    kind: select("Played in", false), policy: select("Policy", false), opponent: select("Against", true),
    seed: select("Seed", true), iteration: select("Iteration", true), contains: select("Contains", true),
  };
  const isSplit = (match) => match.decisions.some((d) => ["claim", "respond"].includes(tables.names[d[column.kind]]));
  const labels = { contains: {} };
  if (!matches.every(isSplit)) Object.assign(labels.contains, { CC: "CC", CD: "CD", DC: "DC", DD: "DD" });
  labels.contains.illegal = "illegal answer";
  if (matches.some(isSplit)) Object.assign(labels.contains, { over: "over-claimed items", constrained: "constrained answer" });

  function select(title, any) {
    const label = html("label", "", title);
    const control = html("select");
    control.dataset.any = any ? "1" : "";
    label.append(control);
    form.append(label);
    return control;
  }
  /** Offers these values, and keeps the chosen one where it is still there. */
  function offer(name, values, fallback = "") {
    const control = selects[name];
    const before = control.value;
    const options = values.map((value) => new Option(labels[name]?.[value] ?? String(value), value));
    if (control.dataset.any) options.unshift(new Option("any", ""));
    control.replaceChildren(...options);
    const wanted = values.map(String).includes(before) || (before === "" && control.dataset.set) ? before : String(fallback);
    control.value = wanted;
    if (control.selectedIndex < 0) control.selectedIndex = 0;
    control.dataset.set = "1";
    control.parentElement.hidden = values.length + (control.dataset.any ? 1 : 0) < 2;
  }
  const unique = (values) => [...new Set(values)];
  const sides = (m) => [[m.policy, m.opponent], [m.opponent, m.policy]];

  /** Fills the filters from the top down: what can be chosen depends on those before. */
  function refill() {
    offer("kind", kinds, kinds[0]);
    const isCross = selects.kind.value === "cross-play";
    const ofKind = matches.filter((m) => (m.opponent !== undefined) === isCross);
    const names = unique(ofKind.flatMap((m) => (isCross ? [m.policy, m.opponent] : [m.policy])));
    offer("policy", names, names[0]);
    const policy = selects.policy.value;
    offer("opponent", isCross ? unique(ofKind.flatMap(sides).filter(([a]) => a === policy).map(([, b]) => b)) : []);
    const ofPolicy = ofKind.filter((m) => m.policy === policy || m.opponent === policy);
    offer("seed", unique(ofPolicy.map((m) => m.seed)).sort((a, b) => a - b));
    const iterations = isCross ? [] : unique(ofPolicy.map((m) => m.iteration)).sort((a, b) => a - b);
    offer("iteration", iterations, iterations.at(-1));
    offer("contains", Object.keys(labels.contains));
  }

  function contains(match, wanted) {
    if (!wanted) return true;
    const rounds = joint(match);
    if (wanted === "over") return splitRounds(unpack(match, tables)).some((round) => round.over.length > 0);
    if (wanted === "constrained") return unpack(match, tables).some((d) => d.constrained);
    if (wanted === "illegal") return choices(match).some((d) => d[column.move] < 0);
    return rounds.some((r) => r.map(letter).join("") === wanted);
  }
  /** A match's decisions that the game asked for: no failed tries, no follow-up questions. */
  const choices = (match) => match.decisions.filter((d) => ["choose", "message", "claim", "respond"].includes(tables.names[d[column.kind]]));
  /** Moves of each round, the chosen policy's seat first. */
  function joint(match) {
    const rounds = new Map();
    for (const d of choices(match)) {
      const key = d[column.round];
      if (!rounds.has(key)) rounds.set(key, []);
      rounds.get(key)[d[column.seat]] = d[column.move] < 0 ? -1 : d[column.played];
    }
    const isSecond = match.players[0] !== selects.policy.value && match.players[1] === selects.policy.value;
    return [...rounds.values()].map((moves) => (isSecond && match.opponent !== undefined ? [...moves].reverse() : moves));
  }

  function filter() {
    const isCross = selects.kind.value === "cross-play";
    const { policy, opponent, seed, iteration, contains: wanted } = selects;
    filtered = matches.filter((m) =>
      (m.opponent !== undefined) === isCross
      && (isCross
        ? sides(m).some(([a, b]) => a === policy.value && (!opponent.value || b === opponent.value))
        : m.policy === policy.value && (!iteration.value || m.iteration === Number(iteration.value)))
      && (!seed.value || m.seed === Number(seed.value))
      && contains(m, wanted.value));
    limit = PAGE;
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => {
    refill();
    filter();
    show(filtered[0] ?? null, null);
  });

  // ---- list -----------------------------------------------------------------------------
  function titleOf(m) {
    const title = html("span", "", m.opponent === undefined ? `iteration ${m.iteration}` : m.players.join(" vs "));
    title.append(" ", html("span", "which", `seed ${m.seed} · match ${m.match}`));
    return title;
  }
  function strip(match) {
    const box = document.createDocumentFragment();
    if (isSplit(match)) return claimStrips(unpack(match, tables), match.players.length);
    for (let seat = 0; seat < match.players.length; seat += 1) {
      const row = html("span", "strip");
      for (const d of choices(match).filter((x) => x[column.seat] === seat)) {
        row.append(html("i", { 0: "C", 1: "D" }[d[column.move]] ?? ""));
      }
      box.append(row);
    }
    return box;
  }
  function drawList() {
    const total = filtered.reduce((sum, m) => sum + m.same.length, 0);
    const folded = total > filtered.length ? `, ${filtered.length} different` : "";
    const count = html("div", "count", `${total} match${total === 1 ? "" : "es"}${folded}`);
    const items = filtered.slice(0, limit).map((m, i) => {
      const item = html("div", "item");
      item.id = `item-${i}`;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", String(m === current));
      const row = html("span", "row");
      row.append(titleOf(m));
      if (m.same.length > 1) row.append(html("span", "times", `×${m.same.length}`));
      item.append(row, strip(m));
      item.addEventListener("click", () => show(m, null));
      return item;
    });
    list.replaceChildren(count, ...items);
    if (filtered.length > limit) {
      const more = html("button", "more", `Show ${Math.min(PAGE, filtered.length - limit)} more`);
      more.type = "button";
      more.addEventListener("click", () => { limit += PAGE; drawList(); });
      list.append(more);
    }
    const at = filtered.indexOf(current);
    if (at >= 0) list.setAttribute("aria-activedescendant", `item-${at}`);
    else list.removeAttribute("aria-activedescendant");
  }
  list.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    move(step);
  });
  function move(step) {
    const at = Math.min(Math.max(filtered.indexOf(current) + step, 0), filtered.length - 1);
    if (at >= limit) limit += PAGE;
    show(filtered[at], null);
    const item = list.querySelector("[aria-selected=true]");
    if (item) list.scrollTop += item.getBoundingClientRect().top - list.getBoundingClientRect().top - list.clientHeight / 2;
  }

  // ---- one match ------------------------------------------------------------------------
  function show(match, decision, isLink = false) {
    current = match;
    openDecision = decision;
    drawList();
    drawMatch();
    if (match && !isLink) remember();
  }
  function remember() {
    const decision = openDecision === null ? "" : `&decision=${openDecision}`;
    history.replaceState(null, "", `#match=${encodeURIComponent(matchKey(current))}${decision}`);
  }
  function drawMatch() {
    if (!current) {
      view.replaceChildren(html("p", "none", "No match fits these filters."));
      return;
    }
    const decisions = unpack(current, tables);
    const head = html("header");
    const about = html("div");
    about.append(html("h3", "", `${current.players.join(" vs ")}, match ${current.match}`));
    const parts = current.opponent === undefined ? [`iteration ${current.iteration}`] : ["cross-play"];
    parts.push(`seed ${current.seed}`, `environment seed ${current.environment}`);
    about.append(html("p", "", parts.join(" · ")));
    if (current.same.length > 1) {
      const named = current.same.slice(0, 12).join(", ");
      const more = current.same.length > 12 ? ` and ${current.same.length - 12} more` : "";
      about.append(html("p", "", `×${current.same.length}: identical in matches ${named}${more}`));
    }
    const steps = html("div", "steps");
    const at = filtered.indexOf(current);
    for (const [text, step] of [["← Previous", -1], ["Next →", 1]]) {
      const button = html("button", "", text);
      button.type = "button";
      button.disabled = at + step < 0 || at + step >= filtered.length;
      button.addEventListener("click", () => move(step));
      steps.append(button);
    }
    head.append(about, steps);

    if (isSplit(current)) {
      view.replaceChildren(head, splitMatch(current, decisions, openDecision, toggle));
      return;
    }
    const grid = html("div", "rounds");
    grid.style.setProperty("--seats", current.players.length);
    grid.append(html("span", "number", "round"));
    current.players.forEach((player, seat) => {
      const own = decisions.filter((d) => d.seat === seat);
      const total = own.reduce((sum, d) => sum + (d.payoff ?? 0), 0);
      const cell = html("div", "seat", player);
      cell.append(html("small", "", `seat ${seat} · ${nicely(total, Number.isInteger(total) ? 0 : 2)} points`));
      grid.append(cell);
    });
    for (const together of alignedRows(decisions)) {
      const { kind, round } = together[0];
      const isMove = kind !== "followup" && !ASIDES[kind];
      const number = html("div", "number", isMove ? together.map((d) => (d.move < 0 ? "?" : letter(d.played))).join("") : "");
      number.prepend(html("b", "", isMove ? round + 1 : ""));
      grid.append(number);
      for (let seat = 0; seat < current.players.length; seat += 1) {
        const d = together.find((x) => x.seat === seat);
        grid.append(d ? bubble(d) : html("span"));
      }
      const opened = together.find((d) => d.index === openDecision);
      if (opened) grid.append(decisionBox(opened));
    }
    view.replaceChildren(head, grid);
  }
  function bubble(d) {
    const button = html("button", `bubble ${ASIDES[d.kind] ? "aside" : ""} ${{ 0: "C", 1: "D" }[d.move] ?? ""} ${d.seat > 0 ? "right" : ""}`);
    button.type = "button";
    button.dataset.decision = d.index;
    button.setAttribute("aria-expanded", String(d.index === openDecision));
    const trembled = d.move >= 0 && d.played !== d.move ? `, played ${letter(d.played)}` : "";
    button.append(
      html("span", "said", d.text.trim().slice(0, 400) || (d.text ? "(blank)" : d.name)),
      html("span", "did", ASIDES[d.kind] ? ASIDES[d.kind] : d.kind === "followup" ? `asked: ${d.name}` : `${d.name}${trembled} · ${d.payoff === null ? "" : `+${nicely(d.payoff, Number.isInteger(d.payoff) ? 0 : 2)}`}`.replace("+\u2212", "\u2212")));
    button.addEventListener("click", () => toggle(d));
    return button;
  }
  /** Opens a decision, or closes it. */
  function toggle(d) {
    openDecision = openDecision === d.index ? null : d.index;
    drawMatch();
    remember();
    view.querySelector(`[data-decision="${d.index}"]`).focus();
  }

  // ---- links ----------------------------------------------------------------------------
  /** Opens what the address names, if it names a match. */
  function follow() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    const key = wanted.get("match");
    const match = key === null ? undefined : matches.find((m) => matchKey(m) === key);
    if (!match) return false;
    selects.kind.value = match.opponent === undefined ? "training" : "cross-play";
    refill();
    selects.policy.value = match.policy;
    refill();
    selects.opponent.value = "";
    selects.seed.value = "";
    selects.contains.value = "";
    if (match.iteration !== undefined) selects.iteration.value = match.iteration;
    filter();
    const decision = wanted.get("decision");
    show(match, decision === null ? null : Number(decision), true);
    document.getElementById("transcripts").scrollIntoView();
    return true;
  }
  window.addEventListener("hashchange", follow);
  refill();
  filter();
  if (!follow()) show(filtered[0] ?? null, null, true);
}
