"use strict";
// Focal and background: payoffs by how many seats the focal agent has.

const point = (packed) => (packed ? { mean: packed[0], low: packed[1], high: packed[2], n: packed[3] } : null);
/** The points of a focal agent with a background; -1: all other agents in turn. */
const mixOf = (focal, background) => data.mixes.find(([one, other]) => one === focal && other === background)?.[2] ?? [];

const MOST_LINES = 12;

/** Every agent as the focal one, over all backgrounds. */
function drawFocal() {
  const panel = document.getElementById("focal-panel");
  const order = byRank().filter((place) => mixOf(place, -1).length);
  if (!panel || !order.length) return;
  const seats = Array.from({ length: data.seats }, (_, i) => i + 1);
  const series = order.slice(0, MOST_LINES).map((place) => ({
    name: players[place].name,
    color: agentColor(place),
    points: seats.map((k) => point(mixOf(place, -1).find(([focal]) => focal === k)?.[1])),
  }));
  lineChart(panel, { title: "Payoff of a focal seat", unit: data.unit, iterations: seats, along: "focal seats", each: "seed", format: (value) => decimals(value, 2), series });
  if (order.length > MOST_LINES) panel.append(html("p", "readout", `The ${MOST_LINES} highest of ${order.length}; the table has all.`));
}

/** Two agents as the two choices of a Schelling diagram. */
function drawTwo() {
  const panel = document.getElementById("two-panel");
  const form = document.getElementById("two-controls");
  if (!panel || players.length < 2) return;
  const ranked = byRank();
  const chosen = { focal: ranked.at(-1), background: ranked[0] };
  const controls = {};
  for (const [side, title] of [["focal", "Focal agent"], ["background", "Background"]]) {
    const label = html("label", "", title);
    const control = html("select");
    control.append(...players.map((player, place) => new Option(player.name, place)));
    control.value = String(chosen[side]);
    control.addEventListener("change", () => {
      const other = side === "focal" ? "background" : "focal";
      // The same agent on both sides is no mix: the other side takes what was here.
      if (Number(control.value) === chosen[other]) chosen[other] = chosen[side];
      chosen[side] = Number(control.value);
      for (const [one, box] of Object.entries(controls)) box.value = String(chosen[one]);
      draw();
    });
    controls[side] = control;
    label.append(control);
    form.append(label);
  }
  function draw() {
    const { focal, background } = chosen;
    const seats = Array.from({ length: data.seats + 1 }, (_, i) => i);
    const found = mixOf(focal, background);
    const at = (k) => found.find(([one]) => one === k);
    // Without focal seats, the background is among itself.
    const alone = mixOf(background, -1).find(([one]) => one === data.seats)?.[1];
    panel.replaceChildren();
    lineChart(panel, {
      title: `${players[focal].name} among ${players[background].name}`, unit: data.unit, iterations: seats, along: "focal seats",
      format: (value) => decimals(value, 2),
      series: [
        { name: `focal: ${players[focal].name}`, color: agentColor(focal), points: seats.map((k) => point(at(k)?.[1])) },
        { name: `background: ${players[background].name}`, color: agentColor(background), points: seats.map((k) => point(k === 0 ? alone : at(k)?.[2])) },
      ],
    });
  }
  draw();
}
