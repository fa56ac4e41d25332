// What the worker printed besides its events, newest at the end; it follows as long as the end is in sight.

import { ansi } from "../frame.js";
import { byId, h } from "../dom.js";
import { clock, iso } from "../format.js";
import { patch } from "../router.js";

const KEPT = 2000;

export class Log {
  constructor() {
    this.lines = [];
    byId("log-filter").addEventListener("input", (event) => patch({ q: event.target.value }, { replace: true }));
  }

  enter() {
    this.lines = [];
  }

  leave() {
    this.lines = [];
    byId("log").replaceChildren();
  }

  change(state) {
    this.query = (state.q || "").toLowerCase();
    if (document.activeElement !== byId("log-filter")) byId("log-filter").value = state.q || "";
    this.#draw();
  }

  apply({ reset, lines }) {
    if (reset) this.lines = [];
    this.lines = this.lines.concat(lines).slice(-KEPT);
    if (reset || this.query || this.lines.length === KEPT) return this.#draw();
    this.#keepEnd(() => byId("log").append(...lines.map(show)));
    byId("log-empty").hidden = this.lines.length > 0;
  }

  #draw() {
    const shown = this.query ? this.lines.filter(({ line }) => line.toLowerCase().includes(this.query)) : this.lines;
    this.#keepEnd(() => byId("log").replaceChildren(...shown.map(show)));
    byId("log-empty").hidden = shown.length > 0;
  }

  #keepEnd(change) {
    const log = byId("log");
    const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    change();
    if (follows) log.scrollTop = log.scrollHeight;
  }
}

const show = ({ at, source, line }) =>
  h("div", { className: source }, h("time", { title: iso(at) }, clock(at)), h("span", {}, ...ansi(line)));
