// The run's metrics (losses, rates): a small chart each, chosen by chips; without a choice the first few.

import { Chart } from "../chart.js";
import { byId, colour, h, setAttr, setText } from "../dom.js";
import { number } from "../format.js";
import { here, patch } from "../router.js";
import { Series } from "../series.js";

const FIRST = 12;

export class Metrics {
  constructor() {
    this.charts = new Map();
    byId("run-metric-chips").addEventListener("click", (event) => this.#toggle(event));
  }

  enter() {
    this.names = new Set();
    this.series = new Map();
  }

  leave() {
    for (const { chart } of this.charts.values()) chart.destroy();
    this.charts.clear();
    byId("run-charts").replaceChildren();
    byId("run-metric-chips").replaceChildren();
    this.names = new Set();
    this.series = new Map();
  }

  change(state) {
    this.chosen = state.metric;
    this.draw();
  }

  /** The whole: {reset, names, series: {name: {x, y}}}; then {points: [[x, {name: value}], …]}. */
  apply(part) {
    if (part.reset) this.enter();
    for (const name of part.names || []) this.names.add(name);
    for (const [name, figure] of Object.entries(part.series || {})) this.#of(name).fill(figure);
    for (const [x, values] of part.points || []) {
      for (const [name, value] of Object.entries(values)) {
        if (value !== null) this.#of(name).append(x, value);
      }
    }
    this.draw();
  }

  #of(name) {
    this.names.add(name);
    if (!this.series.has(name)) this.series.set(name, new Series());
    return this.series.get(name);
  }

  draw() {
    const names = [...this.names].sort();
    const shown = this.chosen?.length ? names.filter((name) => this.chosen.includes(name)) : names.slice(0, FIRST);
    this.#chips(names, shown);
    byId("metrics-empty").hidden = names.length > 0;
    for (const [name, { chart, card }] of this.charts) {
      if (shown.includes(name)) continue;
      chart.destroy();
      card.remove();
      this.charts.delete(name);
    }
    for (const name of shown) {
      const { chart, value } = this.charts.get(name) || this.#make(name);
      const series = this.#of(name);
      chart.set([series]);
      setText(value, number(series.last));
    }
  }

  #make(name) {
    const box = h("div", { className: "chart small" }), value = h("span", { className: "value muted" });
    const card = h("section", { className: "card" },
      h("div", { className: "panel-head" }, h("h3", { title: name }, name), h("span", { className: "space" }), value), box);
    byId("run-charts").append(card);
    const made = { chart: new Chart(box, { lines: [{ name, colour: colour(name) }], label: name, xName: "Step" }), value, card };
    this.charts.set(name, made);
    return made;
  }

  #chips(names, shown) {
    const box = byId("run-metric-chips");
    if (box.children.length !== names.length) {
      box.replaceChildren(...names.map((name) => h("button", { type: "button", className: "chip", "data-metric": name }, name)));
    }
    for (const chip of box.children) setAttr(chip, "aria-pressed", String(shown.includes(chip.dataset.metric)));
  }

  #toggle(event) {
    const name = event.target.closest(".chip")?.dataset.metric;
    if (!name) return;
    const now = new Set(here().metric.length ? here().metric : [...this.charts.keys()]);
    if (!now.delete(name)) now.add(name);
    patch({ metric: [...now] });
  }
}
