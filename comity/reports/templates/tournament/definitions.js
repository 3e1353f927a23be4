"use strict";
// What a term means and what a cell holds, shown beside it while it is pointed at or focused.

const bubbleBox = html("div", "definition");
bubbleBox.id = "definition";
bubbleBox.setAttribute("role", "tooltip");
bubbleBox.hidden = true;
document.body.append(bubbleBox);

/** Shows content beside an element, where there is room for it. */
function showBeside(element, content) {
  hideBeside();
  bubbleBox.replaceChildren(...content);
  bubbleBox.hidden = false;
  element.setAttribute("aria-describedby", "definition");
  placeBeside(element);
}

function placeBeside(element) {
  const box = element.getBoundingClientRect();
  const own = bubbleBox.getBoundingClientRect();
  const width = document.documentElement.clientWidth;
  const isBelow = box.bottom + own.height + 12 < window.innerHeight || box.top < own.height + 12;
  const middle = box.left + box.width / 2 - own.width / 2;
  bubbleBox.style.left = `${Math.max(8, Math.min(middle, width - own.width - 8))}px`;
  bubbleBox.style.top = `${isBelow ? box.bottom + 6 : box.top - own.height - 6}px`;
}

/** What the box stands beside. */
const described = () => document.querySelector("[aria-describedby=definition]");

function hideBeside() {
  if (bubbleBox.hidden) return;
  bubbleBox.hidden = true;
  described()?.removeAttribute("aria-describedby");
}

/** The definition with this id, from the list at the end of the page. */
function definitionOf(id) {
  const title = document.getElementById(id);
  if (!title) return null;
  const meaning = html("span", "meaning");
  meaning.append(...title.nextElementSibling.cloneNode(true).childNodes);
  return [html("b", "", title.textContent), meaning];
}

/** Terms show their definitions; `data-define` is the id of one. */
function equipTerms() {
  for (const term of document.querySelectorAll("[data-define]")) {
    if (!term.closest("button, a")) term.tabIndex = 0;
  }
  const look = (event) => {
    const term = event.target.closest?.("[data-define], .by");
    const defined = term?.matches("[data-define]") ? term : term?.querySelector("[data-define]");
    const content = defined && definitionOf(defined.dataset.define);
    if (content) showBeside(defined, content);
  };
  const leave = (event) => { if (event.target.closest?.("[data-define], .by")) hideBeside(); };
  document.addEventListener("pointerover", look);
  document.addEventListener("focusin", look);
  document.addEventListener("pointerout", leave);
  document.addEventListener("focusout", leave);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideBeside(); });
  // What has the focus, or is still pointed at, keeps its box while the page scrolls.
  const follow = () => {
    const element = described();
    if (element?.matches(":hover, :focus, :focus > *")) placeBeside(element);
    else hideBeside();
  };
  window.addEventListener("scroll", follow, { passive: true, capture: true });
}
