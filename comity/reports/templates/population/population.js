"use strict";
// Fills the page of a population.

fillKeys("conditions", conditionNames.map((name) => ({ label: labelOf(name), ...CONDITION_LOOKS[name] })));
drawCooperation();
drawJoint();
if (mainCondition === "fixed") {
  drawPair();
  drawEnds();
  drawQValues();
} else {
  drawSelectionCurves();
  startSelections();
}
startTypes();
startInteractions();
drawOutcomes();
drawUpdates();

/** The table of types of one window at a time. */
function startTotals() {
  const show = (key) => { for (const one of document.querySelectorAll("[data-window]")) one.hidden = one.dataset.window !== key; };
  const keys = [...document.querySelectorAll("[data-window]")].map((one) => one.dataset.window);
  document.getElementById("totals-controls").append(choiceOf("Episodes", keys.map((key) => [key, windowLabel(key)]), keys[0], show));
  return () => show(keys[0]);
}

const showFirst = startTotals();
equipSorting();
equipTables();
showFirst();
equipTerms();
equipCopying();
followSections();
document.getElementById("save-summary").addEventListener("click", () => saveFile("summary.json", "application/json", JSON.stringify(data)));
