"use strict";
// Saving what is on the page: data as CSV, charts and tables as SVG. Nothing is fetched or sent.

/** A file's name from the page's title and what is saved. */
function fileName(parts, ending) {
  const words = [document.querySelector("h1").textContent, ...parts].join(" ");
  const plain = words.normalize("NFKD").replace(/[^\w.]+/g, "-").replace(/^-+|-+$/g, "");
  return `${plain.slice(0, 120) || "comity"}.${ending}`;
}

function saveFile(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = html("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Rows of texts and numbers as CSV (RFC 4180). */
function csv(rows) {
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return String(value);
    // Text that a spreadsheet would take for a formula is escaped.
    const text = /^[=+\-@\t\r]/.test(value) && Number.isNaN(Number(value)) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

/** What `act` returns, run while the page has the colors of paper. */
function inLight(act) {
  const root = document.documentElement;
  root.dataset.theme = "light";
  try {
    return act();
  } finally {
    delete root.dataset.theme;
  }
}

// ---- tables ---------------------------------------------------------------------------------
const textOf = (element) => (element.dataset.csv ?? element.innerText).replace(/\s+/g, " ").trim();

/**
 * A table's rows. A cell with `data-values` (a mapping of names to numbers) fills a column for
 * each name: that of "mean" is called like the column, any other "column, name". The title of a
 * group of rows stands in a column of its own.
 */
function tableRows(table) {
  const titles = [...table.tHead.rows[0].cells].map(textOf);
  const found = [];
  let group = "";
  for (const row of [...table.tBodies].flatMap((body) => [...body.rows])) {
    if (row.classList.contains("group")) group = textOf(row.cells[0]);
    else found.push({ group, cells: [...row.cells] });
  }
  const valuesOf = (cell) => (cell?.dataset.values ? JSON.parse(cell.dataset.values) : null);
  const columns = titles.map((_, i) => {
    const names = new Set(found.flatMap(({ cells }) => Object.keys(valuesOf(cells[i]) ?? {})));
    return names.size ? [...names] : [""];
  });
  const isGrouped = found.some((row) => row.group);
  const head = titles.flatMap((title, i) => columns[i].map((name) => (name && name !== "mean" ? `${title}, ${name}` : title)));
  const body = found.map(({ group: own, cells }) => {
    const row = columns.flatMap((names, i) => {
      const values = valuesOf(cells[i]);
      if (values) return names.map((name) => values[name] ?? null);
      return names.map((_, k) => (k || !cells[i] ? null : textOf(cells[i])));
    });
    return isGrouped ? [own, ...row] : row;
  });
  return [isGrouped ? ["group", ...head] : head, ...body];
}

/** The radius of a corner in pixels. */
function radius(style, box) {
  const value = style.borderTopLeftRadius;
  return value.endsWith("%") ? (parseFloat(value) / 100) * box.width : parseFloat(value) || 0;
}

/** The lines of a text node as they are broken on the page: `[text, rectangle]`. */
function textLines(node) {
  const lines = [];
  const range = document.createRange();
  for (const { 0: word, index } of node.data.matchAll(/\S+/g)) {
    // A word may be broken as well: one rectangle for each of its parts.
    for (let i = 0; i < word.length; i += 1) {
      range.setStart(node, index + i);
      range.setEnd(node, index + i + 1);
      const box = range.getBoundingClientRect();
      if (!box.width) continue;
      const line = lines.at(-1);
      if (line && Math.abs(line.box.top - box.top) < 2) {
        line.text += (i === 0 ? " " : "") + word[i];
        line.box = { ...line.box, right: box.right };
      } else {
        lines.push({ text: word[i], box: { left: box.left, right: box.right, top: box.top, height: box.height } });
      }
    }
  }
  return lines;
}

/** A table as it stands on the page, colors and bars included, as SVG elements. */
function tableDrawing(table) {
  const scroll = table.closest(".scroll");
  const before = scroll?.scrollLeft ?? 0;
  if (scroll) scroll.scrollLeft = 0;
  const origin = table.getBoundingClientRect();
  const drawing = svg("svg", {
    xmlns: SVG, width: Math.ceil(origin.width), height: Math.ceil(origin.height),
    viewBox: `0 0 ${Math.ceil(origin.width)} ${Math.ceil(origin.height)}`,
    "font-family": getComputedStyle(table).fontFamily,
  });
  const measure = document.createElement("canvas").getContext("2d");
  const paint = (element) => {
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    if (style.display === "none" || style.visibility === "hidden" || !box.width) return;
    const left = box.left - origin.left;
    const top = box.top - origin.top;
    // The cells that stay at the side while the table scrolls have the paper's color.
    const isPaper = style.position === "sticky";
    if (!isPaper && style.backgroundColor !== "rgba(0, 0, 0, 0)") {
      drawing.append(svg("rect", { x: left, y: top, width: box.width, height: box.height, rx: radius(style, box), fill: style.backgroundColor, opacity: style.opacity }));
    }
    for (const [side, at] of [["Bottom", top + box.height], ["Top", top]]) {
      if (parseFloat(style[`border${side}Width`]) > 0) {
        drawing.append(svg("line", { x1: left, x2: left + box.width, y1: at, y2: at, stroke: style[`border${side}Color`] }));
      }
    }
    for (const child of element.childNodes) {
      if (child.nodeType === Node.ELEMENT_NODE) paint(child);
      if (child.nodeType !== Node.TEXT_NODE) continue;
      for (const { text, box: line } of textLines(child)) {
        measure.font = style.font;
        const { fontBoundingBoxAscent: up, fontBoundingBoxDescent: down } = measure.measureText(text);
        const anchor = { center: "middle", right: "end" }[style.textAlign] ?? "start";
        const x = { start: line.left, middle: (line.left + line.right) / 2, end: line.right }[anchor];
        drawing.append(svg("text", {
          x: x - origin.left, y: line.top - origin.top + (line.height * up) / (up + down),
          "text-anchor": anchor, "font-size": style.fontSize, "font-weight": style.fontWeight, fill: style.color,
        }, text));
      }
    }
  };
  paint(table);
  if (scroll) scroll.scrollLeft = before;
  return drawing;
}

// ---- charts ---------------------------------------------------------------------------------
const DRAWN = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "opacity", "font-size", "font-weight"];
const SAVED_WIDTH = 640;

/** A chart of its own: what the page's style says is written into its elements. */
function chartDrawing(canvas, title, draw) {
  const { drawing } = draw(SAVED_WIDTH, true);
  canvas.append(drawing);
  for (const element of drawing.querySelectorAll("*")) {
    const style = getComputedStyle(element);
    for (const name of DRAWN) element.setAttribute(name, style.getPropertyValue(name));
    element.removeAttribute("style");
    element.removeAttribute("class");
  }
  const ink = getComputedStyle(canvas).color;
  const [, , width, height] = drawing.getAttribute("viewBox").split(" ").map(Number);
  const family = getComputedStyle(canvas).fontFamily;
  drawing.remove();
  const lines = wrapped(title, Math.floor((width - 20) / 7.6));
  const room = 18 * lines.length + 6;
  const whole = svg("svg", { xmlns: SVG, width, height: height + room, viewBox: `0 0 ${width} ${height + room}`, "font-family": family });
  lines.forEach((line, i) => whole.append(svg("text", { x: 10, y: 16 + 18 * i, "font-size": "14px", "font-weight": 600, fill: ink }, line)));
  const inner = svg("g", { transform: `translate(0 ${room})` });
  inner.append(...drawing.childNodes);
  whole.append(inner);
  return whole;
}

function saveDrawing(name, make) {
  saveFile(fileName(name, "svg"), "image/svg+xml", `${new XMLSerializer().serializeToString(inLight(make))}\n`);
}

/**
 * Two small buttons that save something: `drawing` and `rows` make what is saved. `name` holds the
 * parts of the file's name, or returns them where they depend on what is shown.
 */
function saveButtons(title, name, drawing, rows) {
  const box = html("span", "save");
  const parts = () => (typeof name === "function" ? name() : name);
  const make = { SVG: () => saveDrawing(parts(), drawing), CSV: () => saveFile(fileName(parts(), "csv"), "text/csv", csv(rows())) };
  for (const [kind, act] of Object.entries(make)) {
    const one = button(kind, "", act);
    one.setAttribute("aria-label", `Save as ${kind}: ${title}`);
    one.title = `Save as ${kind}`;
    box.append(one);
  }
  return box;
}

// ---- what every page has --------------------------------------------------------------------
/** Tables inside of an element can be saved, and say so where they are wider than the screen. */
function equipTables(inside = document) {
  const shown = [];
  for (const scroll of inside.querySelectorAll(".scroll[role=region]")) {
    if (scroll.previousElementSibling?.classList.contains("tools")) continue;
    const table = scroll.querySelector("table");
    const title = scroll.getAttribute("aria-label");
    const tools = html("div", "tools");
    const sign = html("span", "wide-sign", "");
    tools.append(sign, saveButtons(title, [title], () => tableDrawing(table), () => tableRows(table)));
    scroll.before(tools);
    const measure = () => {
      const hidden = scroll.scrollWidth - scroll.clientWidth;
      // A few pixels are the tables' own spacing.
      return { isWide: hidden > 8 && scroll.clientWidth > 0, isAtEnd: scroll.scrollLeft >= hidden - 1 };
    };
    const show = ({ isWide, isAtEnd }) => {
      sign.textContent = !isWide ? "" : isAtEnd ? "← more columns" : "more columns: scroll →";
      scroll.classList.toggle("is-cut", isWide && !isAtEnd);
    };
    const look = () => show(measure());
    scroll.addEventListener("scroll", look, { passive: true });
    const observer = new ResizeObserver(look);
    observer.observe(scroll);
    observer.observe(table);
    shown.push({ measure, show });
  }
  // All are measured before any changes, so that the page is laid out once.
  const found = shown.map(({ measure }) => measure());
  shown.forEach(({ show }, i) => show(found[i]));
}

/** Buttons that copy the text of the element that they name. */
function equipCopying() {
  for (const one of document.querySelectorAll("button[data-copies]")) {
    const source = document.getElementById(one.dataset.copies);
    const before = one.textContent;
    one.addEventListener("click", async () => {
      const isDone = await copyText(source.textContent);
      one.textContent = isDone ? "Copied" : "Select and copy by hand";
      setTimeout(() => { one.textContent = before; }, 2_000);
    });
  }
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without the permission, or from a file in some browsers: the old way.
    const box = html("textarea", "skip");
    box.value = text;
    document.body.append(box);
    box.select();
    const isDone = document.execCommand("copy");
    box.remove();
    return isDone;
  }
}

/** A text in lines of so many letters, broken between words where that can be. */
function wrapped(text, letters) {
  const lines = [""];
  for (const part of text.match(/[^\s_/-]*[\s_/-]?/g).filter(Boolean)) {
    let rest = part;
    if (lines.at(-1) && (lines.at(-1) + rest).trimEnd().length > letters) lines.push("");
    while (rest.trimEnd().length > letters) {
      lines.splice(-1, 1, rest.slice(0, letters), "");
      rest = rest.slice(letters);
    }
    lines.splice(-1, 1, lines.at(-1) + rest);
  }
  return lines.map((line) => line.trim()).filter(Boolean);
}
