"use strict";
// The page's data, unpacked.

const data = JSON.parse(document.getElementById("page-data").textContent);
const players = data.players;
const agentColor = (place) => `var(--p${place % 12})`;

/** An estimate from `[mean, low, high, n, note]`; null where there is none. */
function unpackEstimate(packed) {
  if (!packed) return null;
  const [mean, low, high, n, note] = packed;
  return { mean, low, high, n, note: data.notes[note] };
}

/** All results of a subset of the matches: `pair(row, column)` and `agents` by place. */
function unpackResults({ pairs, agents }) {
  const byPair = new Map();
  for (const [row, column, matches, identical, estimates] of pairs) {
    byPair.set(row * players.length + column, { row, column, matches, isIdentical: identical === 1, estimates });
  }
  const byAgent = [];
  for (const [place, rank, estimates] of agents) byAgent[place] = { rank, estimates };
  return {
    pairs: [...byPair.values()],
    pair: (row, column) => byPair.get(row * players.length + column),
    agents: byAgent,
  };
}
