"use strict";
// A figure: title, buttons that save it, and a drawing that fits its width.

/**
 * A figure that draws itself again when its width changes. `draw(width)` returns an object with
 * its `drawing`; `rows()` is what it shows as a table. `equip(drawing, drawn, width, line)` makes
 * a drawing readable step by step in the line of text below it; what it returns is called once the
 * drawing is on the page.
 */
function drawnFigure(container, { title, unit, description, draw, rows, equip }) {
  const box = html("figure");
  const canvas = html("div");
  const caption = html("figcaption");
  const heading = html("span", "title", title);
  if (unit) heading.append(html("span", "", ` ${unit}`));
  const section = container.closest("section")?.querySelector("h2")?.textContent ?? "";
  const whole = unit ? `${title}, ${unit}` : title;
  caption.append(heading, saveButtons(title, [section, title], () => chartDrawing(canvas, whole, draw), rows));
  box.append(caption, canvas);
  const line = html("div", "readout");
  line.setAttribute("aria-live", "polite");
  if (equip) box.append(line);
  container.append(box);

  function redraw() {
    const width = Math.max(260, canvas.clientWidth);
    const drawn = draw(width);
    const { drawing } = drawn;
    drawing.setAttribute("role", "img");
    drawing.setAttribute("aria-label", `${title}. ${description}`);
    drawing.prepend(svg("title", {}, title), svg("desc", {}, description));
    if (equip) drawing.setAttribute("tabindex", "0");
    // Keyboard focus stays where it was.
    const isRead = canvas.contains(document.activeElement);
    const restore = equip?.(drawing, drawn, width, line);
    canvas.replaceChildren(drawing);
    restore?.();
    if (isRead) drawing.focus({ preventScroll: true });
  }
  redraw();
  let width = canvas.clientWidth;
  new ResizeObserver(() => {
    if (canvas.clientWidth === width) return;
    width = canvas.clientWidth;
    redraw();
  }).observe(canvas);
  return { box, redraw };
}
