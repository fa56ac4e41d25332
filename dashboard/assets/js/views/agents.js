// The list of agents: one tab each, born with the agent's first event. Hundreds are one list to search.

import { byId, colour, h, setAttr, setText } from "../dom.js";
import { exact, rate } from "../format.js";
import { spark } from "../chart.js";
import { here, patch } from "../router.js";

const SEARCH_FROM = 9;
const LIVE_MS = 10_000;

/** Who only logs metrics stands below those who act. */
const acts = (row) => Boolean(row.steps || row.episodes);

export const tabText = (agentId) => `Live-${agentId}-Training`;

export class Agents {
  constructor() {
    this.list = byId("agent-list");
    this.search = byId("agent-search");
    this.list.addEventListener("keydown", (event) => this.#keys(event));
    this.list.addEventListener("pointerover", ({ target }) => this.#describe(target.closest(".agent-tab")));
    this.search.addEventListener("input", () => this.#filter());
    this.clear();
  }

  clear() {
    this.tabs = new Map();
    this.chosen = null;
    this.search.value = "";
    this.list.replaceChildren();
  }

  /** New and changed agents. `status`: of the run; an agent that still acts is running whatever it says. */
  update(rows, status, now) {
    const born = rows.filter((row) => !this.tabs.has(row.agent_id));
    for (const row of born) this.tabs.set(row.agent_id, this.#tab(row));
    const began = rows.some((row) => acts(row) && !acts(this.tabs.get(row.agent_id).row));
    for (const row of rows) this.#fill(this.tabs.get(row.agent_id), row);
    if (born.length || began) this.#order();
    this.states(status, now);
    setText(byId("agent-count"), exact(this.tabs.size));
    byId("agent-search-box").hidden = this.tabs.size < SEARCH_FROM;
    if (born.length && this.search.value) this.#filter();
    if (born.some((row) => row.agent_id === this.chosen)) this.#show(this.tabs.get(this.chosen));
  }

  states(status, now) {
    for (const tab of this.tabs.values()) {
      const acts = status === "running" && now - tab.row.last_seen_at < LIVE_MS;
      const state = status === "running" ? (acts ? "running" : "idle") : status;
      if (state !== tab.state) setAttr(tab, "data-status", (tab.state = state));
    }
  }

  #describe(tab) {
    if (!tab) return;
    const { agent_id: id, steps_per_second: speed } = tab.row;
    tab.title = `${id} · ${tab.state}${speed && tab.state === "running" ? ` · ${rate(speed)} steps/s` : ""}`;
  }

  get first() {
    return this.list.firstElementChild?.row.agent_id ?? null;
  }

  choose(agentId) {
    if (this.chosen === agentId) return;
    this.chosen = agentId;
    for (const [id, tab] of this.tabs) this.#mark(tab, id === agentId);
    this.#show(this.tabs.get(agentId));
  }

  // Within the list only: the page itself stays where it is.
  #show(tab) {
    if (!tab) return;
    const { list } = this, above = tab.offsetTop - list.offsetTop, left = tab.offsetLeft - list.offsetLeft;
    if (above < list.scrollTop || above + tab.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = above - list.clientHeight / 2;
    if (left < list.scrollLeft || left + tab.offsetWidth > list.scrollLeft + list.clientWidth) list.scrollLeft = left - list.clientWidth / 2;
  }

  /** The neighbour of the chosen tab, among those in sight. */
  step(by) {
    const shown = [...this.list.children].filter((tab) => !tab.hidden);
    const at = shown.findIndex((tab) => tab.row.agent_id === this.chosen);
    const next = shown[(at + by + shown.length) % shown.length];
    if (next) this.#open(next, { replace: true });
    return next;
  }

  #tab(row) {
    const tab = h("button", {
      type: "button", role: "tab", className: "agent-tab", id: `tab-${this.tabs.size}-${Date.now()}`,
      "aria-controls": "agent", "aria-selected": "false", "aria-label": tabText(row.agent_id),
      tabIndex: -1, onclick: () => this.#open(tab),
    }, h("span", { className: "tab-name" }, tabText(row.agent_id)), spark());
    tab.row = row;
    tab.lastChild.update(row.returns);
    tab.lastChild.style.setProperty("--tone", colour(row.agent_id));
    this.#mark(tab, row.agent_id === this.chosen);
    return tab;
  }

  #fill(tab, row) {
    const before = tab.row.returns, { returns } = row;
    tab.row = row;
    if (String(returns) !== String(before)) tab.lastChild.update(returns);
  }

  #mark(tab, chosen) {
    setAttr(tab, "aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    if (chosen) byId("agent").setAttribute("aria-labelledby", tab.id);
  }

  #order() {
    const compare = new Intl.Collator("en", { numeric: true }).compare;
    const tabs = [...this.tabs.values()].sort(({ row: a }, { row: b }) => acts(b) - acts(a) || compare(a.agent_id, b.agent_id));
    tabs.forEach((tab, i) => {
      const there = this.list.children[i];
      if (there !== tab) this.list.insertBefore(tab, there || null); // the others stay: focus is not lost
    });
  }

  #filter() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const [id, tab] of this.tabs) {
      tab.hidden = !words.every((word) => id.toLowerCase().includes(word));
      found += tab.hidden ? 0 : 1;
    }
    byId("agents-none").hidden = found > 0;
  }

  #open(tab, options) {
    const query = here();
    patch({ agent: tab.row.agent_id, panel: null, episode: null, at: null, q: null, metric: query.metric }, options);
  }

  #keys(event) {
    const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    const edge = { Home: "firstElementChild", End: "lastElementChild" }[event.key];
    if (!by && !edge) return;
    event.preventDefault();
    const tab = by ? this.step(by) : this.list[edge];
    if (edge && tab) this.#open(tab, { replace: true });
    tab?.focus();
  }
}

