"use strict";
// Undoes the packing of reports/transcripts.py.

/** Values from their front coding: what each shares with the one before it, sorted. */
function decodeTable({ order, shared, rest }) {
  const values = [];
  let before = [];
  order.forEach((place, i) => {
    const isText = typeof rest[i] === "string";
    // Texts share whole characters, not halves of surrogate pairs.
    const tail = isText ? Array.from(rest[i]) : rest[i];
    before = before.slice(0, shared[i]).concat(tail);
    values[place] = isText ? before.join("") : before;
  });
  return values;
}

/** A compact match as objects. */
function unpack(packed, tables) {
  return packed.decisions.map((values, index) => {
    const d = Object.fromEntries(tables.columns.map((name, i) => [name, values[i]]));
    const [player, adapter, version] = tables.agents[d.agent];
    return {
      ...d, index, player, adapter, version,
      ...unpackExtra(d.extra, tables),
      text: tables.texts[d.text],
      name: tables.names[d.name],
      kind: tables.names[d.kind],
      parse_status: tables.names[d.parse_status],
      legal: d.legal < 0 ? [] : tables.legal[d.legal],
      tokens: d.tokens < 0 ? [] : tables.ids[d.tokens],
      pieces: d.conversation < 0 ? [] : unpackPieces(tables.conversations[d.conversation], d.piece, tables),
    };
  });
}

/** The deal, the claim and how the answer came about; nulls where a decision has none of it. */
function unpackExtra(index, tables) {
  const values = index < 0 ? tables.extra.map(() => null) : tables.extras[index];
  const extra = Object.fromEntries(tables.extra.map((name, i) => [name, values[i]]));
  return { ...extra, message_as_read: extra.message_as_read === null ? null : tables.texts[extra.message_as_read] };
}

/** The pieces of a conversation before the answer at `end`. */
function unpackPieces(flat, end, tables) {
  const pieces = [];
  const stop = end < 0 ? flat.length : 3 * end;
  for (let i = 0; i < stop; i += 3) {
    pieces.push({ isAnswer: flat[i] === 1, isExploration: flat[i] === 2, text: tables.texts[flat[i + 1]], ids: tables.ids[flat[i + 2]] });
  }
  return pieces;
}
