"use strict";
// How numbers and names are written.

const isNumber = (value) => typeof value === "number";

/** A value of a metric as text. */
const shown = (value, look) => (look.percent ? percent(value) : decimals(value, look.digits));
/** The interval: "0.20 to 0.30"; "" where there is none. */
function shownSpan(e, look) {
  if (!isSpan(e)) return "";
  const low = shown(e.low, look);
  return `${look.percent ? low.replace(/\u202f%$/, "") : low} to ${shown(e.high, look)}`;
}
/** The longer side of the interval: "±0.12". */
function shownHalf(e, look) {
  if (!isSpan(e)) return "";
  const half = Math.max(e.high - e.mean, e.mean - e.low);
  return `±${look.percent ? decimals(100 * half, 0) : decimals(half, look.digits)}`;
}

/** The class of a cell's color: a step of the metric's scale (colors.py). */
function colorStep(value, look) {
  const last = look.scale === "d" ? 10 : 8;
  const place = look.high > look.low ? (value - look.low) / (look.high - look.low) : 0;
  return `${look.scale}${Math.round(Math.min(Math.max(place, 0), 1) * last)}`;
}

/** A name that may be broken after `_`, `-`, `/`, `:`, `@`, `=`, and dots in words. */
function breakable(element, name) {
  for (const part of name.split(/(?<=[_\-/:@=])(?![_\-/:@=])|(?<=\.)(?=[a-z])/)) {
    if (part) element.append(part, html("wbr"));
  }
  return element;
}

/** A name of at most so many letters: its middle goes, since both ends tell names apart. */
function shortName(name, letters) {
  const all = Array.from(name);
  if (all.length <= letters) return name;
  const tail = Math.floor((letters - 1) * 0.45);
  return `${all.slice(0, letters - 1 - tail).join("")}…${all.slice(-tail).join("")}`;
}

const countOf = (number, noun) => `${number} ${number === 1 ? noun : noun.endsWith("ch") ? `${noun}es` : `${noun}s`}`;
