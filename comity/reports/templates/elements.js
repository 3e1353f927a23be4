"use strict";
// Making elements; text goes in as text.

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element with attributes. */
function svg(tag, attributes = {}, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** An HTML element with a class and text. */
function html(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** A button that does something. */
function button(text, className, act) {
  const element = html("button", className, text);
  element.type = "button";
  element.addEventListener("click", act);
  return element;
}
