"use strict";
// Networks of selections: directed, nodes on a circle; and bipartite, selectors beside the selected.

const FAINT = 0.13;

/** `share(i, k)` is an estimate or null, `chance(i, k)` what uniform choices would give. */
function drawNetworks(names, share, chance, state) {
  const panels = document.getElementById("network-panels");
  panels.replaceChildren();
  if (names.length > 32) {
    panels.append(html("p", "none", "More than 32 agents: choose the level of types."));
    return;
  }
  const key = data.totals[state.condition][state.window] ? state.window : "all";
  const totals = data.totals[state.condition][key];
  const nodes = names.map((name, i) => ({
    name,
    color: state.level === "types" ? typeColor(i) : typeColor(typePlace(data.agents[i].type)),
    chosen: (state.level === "types" ? totals.types[name] : totals.agents[i]).chosen_per_episode?.mean ?? 1,
  }));
  const edges = names.flatMap((_, i) => names.flatMap((__, k) => {
    const e = share(i, k);
    return e && e.mean > 0.002 ? [{ from: i, to: k, share: e.mean, isAbove: e.mean > chance(i, k) * 1.0001 }] : [];
  }));
  const most = Math.max(...edges.map((edge) => edge.share), 1e-9);
  for (const edge of edges) Object.assign(edge, { width: 0.5 + 7 * (edge.share / most), opacity: edge.isAbove ? 0.35 + 0.5 * (edge.share / most) : FAINT });
  edges.sort((a, b) => a.isAbove - b.isAbove);
  const unit = `${windowLabel(state.window)}, ${labelOf(state.condition)}`;
  const strongest = edges.filter((edge) => edge.isAbove).sort((a, b) => b.share - a.share).slice(0, 5);
  const description = `Above chance: ${strongest.map((e) => `${names[e.from]} to ${names[e.to]} ${percent(e.share)}`).join(", ") || "none"}`;
  const rows = () => [["selector", "selected", "share", "chance"], ...edges.map((e) => [names[e.from], names[e.to], e.share, chance(e.from, e.to)])];
  drawnFigure(panels, { title: "Directed network", unit, description, rows, draw: (width) => directed(width, nodes, edges) });
  drawnFigure(panels, { title: "Bipartite network", unit, description, rows, draw: (width) => bipartite(width, nodes, edges) });
}

const nodeSize = (node) => 4 + 5 * Math.sqrt(Math.min(node.chosen, 9));

function edgeTitle(nodes, edge) {
  return svg("title", {}, `${nodes[edge.from].name} → ${nodes[edge.to].name}: ${percent(edge.share)}`);
}

function directed(width, nodes, edges) {
  const side = Math.min(width, 460);
  const letters = Math.max(...nodes.map((node) => shortName(node.name, 14).length));
  const reach = side / 2 - 24 - 3.9 * letters;
  const [cx, cy] = [width / 2, side / 2];
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${side}` });
  const angle = (i) => (2 * Math.PI * i) / nodes.length - Math.PI / 2;
  const at = nodes.map((_, i) => [cx + reach * Math.cos(angle(i)), cy + reach * Math.sin(angle(i))]);
  for (const edge of edges) {
    const { color } = nodes[edge.from];
    const look = { class: "edge", style: `stroke:${color};stroke-width:${edge.width};opacity:${edge.opacity}` };
    const [x0, y0] = at[edge.from];
    const size = nodeSize(nodes[edge.to]);
    const group = svg("g");
    group.append(edgeTitle(nodes, edge));
    if (edge.from === edge.to) {
      const [ux, uy] = [Math.cos(angle(edge.from)), Math.sin(angle(edge.from))];
      group.append(svg("circle", { ...look, cx: x0 - ux * (size + 7), cy: y0 - uy * (size + 7), r: 9 }));
    } else {
      const [x1, y1] = at[edge.to];
      // Bent to the side, so that the two directions of a pair lie apart.
      const [mx, my] = [(x0 + x1) / 2 + 0.14 * (y1 - y0), (y0 + y1) / 2 - 0.14 * (x1 - x0)];
      const length = Math.hypot(x1 - mx, y1 - my) || 1;
      const [ux, uy] = [(x1 - mx) / length, (y1 - my) / length];
      const tip = [x1 - ux * (size + 1), y1 - uy * (size + 1)];
      const head = 4 + 1.1 * edge.width;
      const end = [tip[0] - ux * head * 0.8, tip[1] - uy * head * 0.8];
      group.append(svg("path", { ...look, d: `M${x0},${y0}Q${mx},${my} ${end[0]},${end[1]}` }));
      const wing = (sign) => `${tip[0] - ux * head - sign * uy * head * 0.45},${tip[1] - uy * head + sign * ux * head * 0.45}`;
      group.append(svg("polygon", { points: `${tip[0]},${tip[1]} ${wing(1)} ${wing(-1)}`, style: `fill:${color};opacity:${Math.min(1, edge.opacity + (edge.isAbove ? 0.15 : 0))}` }));
    }
    drawing.append(group);
  }
  nodes.forEach((node, i) => {
    const [x, y] = at[i];
    const size = nodeSize(node);
    const circle = svg("circle", { class: "node", cx: x, cy: y, r: size, style: `fill:${node.color}` });
    circle.append(svg("title", {}, `${node.name}: chosen ${decimals(node.chosen, 2)} times per episode and agent`));
    const [ux, uy] = [Math.cos(angle(i)), Math.sin(angle(i))];
    const anchor = Math.abs(ux) < 0.25 ? "middle" : ux > 0 ? "start" : "end";
    drawing.append(circle, svg("text", { class: "node-label", x: x + ux * (size + 6), y: y + uy * (size + 9) + 4, "text-anchor": anchor }, shortName(node.name, 14)));
  });
  return { drawing };
}

function bipartite(width, nodes, edges) {
  const gap = Math.max(20, Math.min(46, 400 / nodes.length));
  const letters = Math.max(...nodes.map((node) => shortName(node.name, 14).length));
  const left = 24 + 7.4 * letters;
  const height = 34 + gap * nodes.length;
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}` });
  const y = (i) => 34 + gap * (i + 0.5);
  const right = width - left;
  drawing.append(svg("text", { x: left, y: 14, "text-anchor": "middle" }, "selector"), svg("text", { x: right, y: 14, "text-anchor": "middle" }, "selected"));
  for (const edge of edges) {
    const middle = (left + right) / 2;
    const line = svg("path", {
      class: "edge", d: `M${left},${y(edge.from)}C${middle},${y(edge.from)} ${middle},${y(edge.to)} ${right},${y(edge.to)}`,
      style: `stroke:${nodes[edge.from].color};stroke-width:${edge.width};opacity:${edge.opacity}`,
    });
    line.append(edgeTitle(nodes, edge));
    drawing.append(line);
  }
  nodes.forEach((node, i) => {
    const name = shortName(node.name, 14);
    const size = Math.min(nodeSize(node), gap / 2 - 1);
    drawing.append(
      svg("circle", { class: "node", cx: left, cy: y(i), r: 6, style: `fill:${node.color}` }),
      svg("circle", { class: "node", cx: right, cy: y(i), r: size, style: `fill:${node.color}` }),
      svg("text", { class: "node-label", x: left - 14, y: y(i) + 4, "text-anchor": "end" }, name),
      svg("text", { class: "node-label", x: right + size + 6, y: y(i) + 4 }, name),
    );
  });
  return { drawing };
}
