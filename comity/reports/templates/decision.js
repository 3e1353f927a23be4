"use strict";
// One decision, opened. Texts come from models: they are only ever set as text content.

const heading = (text) => html("h5", "", text);

/** Pieces as one text: answers stand out, and so do exploration instructions. */
function pieceText(pieces) {
  const text = html("pre", "text");
  for (const piece of pieces) {
    const span = html("span", piece.isAnswer ? "answer" : piece.isExploration ? "exploration" : "", piece.text);
    if (piece.isExploration) span.title = "Exploration instruction, excluded from the loss";
    text.append(span);
  }
  return text;
}

/** The prompt, the answer and the facts of a decision. */
function decisionBox(d) {
  const box = html("div", "decision");
  box.append(html("h4", "", `${d.player}, seat ${d.seat}, round ${d.round + 1}`));
  if (d.pieces.length) {
    const lastAnswer = d.pieces.findLastIndex((piece) => piece.isAnswer);
    box.append(heading(lastAnswer < 0 ? "Prompt" : "Prompt since the last answer"));
    const shown = d.pieces.slice(lastAnswer + 1);
    box.append(pieceText(shown));
    if (shown.some((piece) => piece.isExploration)) {
      box.append(html("p", "note", "Underlined: exploration instruction, excluded from the loss."));
    }
    // At the first answer this is the full prompt already; only its ids are added.
    const isFirst = lastAnswer < 0;
    // The tokens of a model behind an API are not known.
    const isApi = d.controller === "api";
    const whole = html("details");
    whole.append(html("summary", "", isFirst ? "Token ids of the prompt" : "Full prompt"));
    whole.addEventListener("toggle", () => {
      if (whole.querySelector("pre")) return;
      const ids = d.pieces.flatMap((piece) => piece.ids);
      if (!isFirst) {
        whole.append(pieceText(d.pieces));
        if (!isApi) whole.append(heading(`Its ${ids.length} token ids`));
      }
      if (!isApi) whole.append(html("pre", "text ids", ids.join(" ")));
    });
    if (!isApi || !isFirst) box.append(whole);
  }
  box.append(heading("Answer"), html("pre", "text", d.text || "(none)"));
  if (d.kind === "message" && d.message_as_read !== d.text) {
    box.append(heading("As the others read it"), html("pre", "text", d.message_as_read || "(nothing)"));
  }
  if (d.tokens.length) {
    box.append(heading("Token ids of the answer"), html("pre", "text ids", d.tokens.join(" ")));
  }
  if (d.probabilities.length) {
    box.append(heading("Probability of each legal answer"));
    const bars = html("div", "chances");
    d.probabilities.forEach((chance, i) => {
      const label = d.legal[i] ?? `move ${i}`;
      const track = html("span", "track");
      const bar = html("i");
      bar.style.width = `${100 * (chance ?? 0)}%`;
      track.append(bar);
      const isChosen = label.trim() === d.text.trim() ? "chosen" : "";
      bars.append(html("span", isChosen, label), track, html("span", isChosen, chance === null ? "none" : `${nicely(100 * chance, 2)}\u202f%`));
    });
    box.append(bars);
  }
  const facts = html("dl", "facts");
  const trained = d.adapter === null ? "" : `${d.adapter}, version ${d.version}`;
  const rows = [
    ["Follow-up question", d.kind === "followup" ? d.name : null],
    ["Move", d.kind === "choose" ? `${d.name} (${letter(d.move)})` : null],
    ["Legal", ["message", "claim", "respond"].includes(d.kind) ? (d.move < 0 ? "no" : "yes") : null],
    ["Parsed as", d.kind === "followup" || !d.parse_status ? null : d.parse_status],
    ["Played", d.kind === "choose" ? (d.played < 0 ? "no move" : letter(d.played)) : null],
    ["Payoff", d.payoff === null || d.kind === "message" ? null : nicely(d.payoff)],
    ["Reward", d.reward === null ? null : nicely(d.reward)],
    ["Return", d.return_ === null ? null : nicely(d.return_)],
    ["Advantage", d.advantage === null ? null : nicely(d.advantage)],
    ["Log-probability of the answer", d.tokens.length && d.logprob !== null && d.kind !== "choose" ? nicely(d.logprob) : null],
    ["Probability of the answer", d.tokens.length && d.logprob !== null && d.kind === "choose" ? `${nicely(100 * Math.exp(d.logprob), 2)}\u202f%` : null],
    ["Attempts", d.attempts === null || d.conversation < 0 ? null : String(d.attempts)],
    ["Constrained decoding", d.constrained === null || d.conversation < 0 ? null : d.constrained ? "yes" : "no"],
    ["Controller", d.controller || null],
    ["Adapter", trained || (d.conversation >= 0 ? "none: base model" : null)],
    ["In the loss", d.conversation < 0 ? null : d.trained ? "yes" : "no"],
  ];
  for (const [term, value] of rows.filter(([, v]) => v !== null)) {
    const pair = html("div");
    pair.append(html("dt", "", term), html("dd", "", value));
    facts.append(pair);
  }
  box.append(facts);
  return box;
}
