"use strict";
// What is shown of a tournament: a metric, a subset of the matches, an order. One state for all.

const results = Object.fromEntries(Object.entries(data.subsets).map(([key, found]) => [key, unpackResults(found)]));
const metricPlace = Math.max(0, data.metrics.findIndex((metric) => metric.name === "payoff"));
const state = { metric: metricPlace, subset: "all", order: "rank", cells: "whole" };
const listeners = [];

const SUBSETS = { all: "All matches", clean: "Without illegal answers and forfeits" };
const ORDERS = { rank: "rank", metric: "the metric’s mean", listed: "as listed", name: "name", chosen: "one row or column" };
const CELLS = { whole: "mean and interval", mean: "mean", color: "color only" };

/** Changes what is shown, everywhere. */
function setState(change) {
  Object.assign(state, change);
  for (const listener of listeners) listener(change);
}

const chosenMetric = () => data.metrics[state.metric];
const chosenResults = () => results[state.subset];
const agentEstimate = (place, metric, subset = state.subset) => unpackEstimate(results[subset].agents[place]?.estimates[metric]);

/** The places of all agents, best first by a metric; without a value last. */
function byMetric(metric, subset = state.subset) {
  const direction = data.metrics[metric]?.better === "low" ? 1 : -1;
  const value = players.map((_, place) => agentEstimate(place, metric, subset)?.mean ?? null);
  return players.map((_, place) => place).sort((a, b) => compareValues(value[a], value[b], direction));
}

function byRank() {
  const rank = players.map((_, place) => chosenResults().agents[place]?.rank ?? null);
  return players.map((_, place) => place).sort((a, b) => compareValues(rank[a], rank[b], 1));
}

/** A select that shows and sets a part of the state. */
function stateSelect(title, name, values) {
  const label = html("label", "", title);
  const control = html("select");
  control.dataset.state = name;
  control.append(...values.map(([value, text]) => new Option(text, value)));
  const read = () => { control.value = String(state[name]); };
  control.addEventListener("change", () => setState({ [name]: name === "metric" ? Number(control.value) : control.value }));
  listeners.push(read);
  read();
  label.append(control);
  return label;
}

/** Two buttons for the two tables of matches; one is pressed. */
function subsetButtons() {
  const box = html("div", "subset");
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Matches that count");
  for (const key of Object.keys(results)) {
    const one = button(SUBSETS[key], "", () => setState({ subset: key }));
    if (key === "clean") one.dataset.define = "def-clean";
    const read = () => one.setAttribute("aria-pressed", String(state.subset === key));
    listeners.push(read);
    read();
    box.append(one);
  }
  return box;
}

function equipControls() {
  const metrics = data.metrics.map((metric, place) => [place, metric.label]);
  const makers = {
    metric: () => stateSelect("Metric", "metric", metrics),
    subset: () => (Object.keys(results).length > 1 ? subsetButtons() : ""),
    order: () => stateSelect("Order", "order", Object.entries(ORDERS)),
    cells: () => stateSelect("Cells", "cells", Object.entries(CELLS)),
  };
  for (const box of document.querySelectorAll(".controls[data-controls]")) {
    box.append(...box.dataset.controls.split(" ").map((name) => makers[name]()));
  }
  const show = () => {
    for (const one of document.querySelectorAll("[data-subset]")) one.hidden = one.dataset.subset !== state.subset;
  };
  listeners.push(show);
  show();
}
