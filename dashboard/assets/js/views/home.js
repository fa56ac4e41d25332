// All runs: live, sorted, filtered. The order stands still while the pointer is on a row.

import { byId, copy, h, setAttr, setText } from "../dom.js";
import { compact, duration, exact, iso, moment, number, rate } from "../format.js";
import { spark } from "../chart.js";
import { Rows } from "../rows.js";
import { go, here, patch, runLink } from "../router.js";

const STATES = ["running", "completed", "failed", "cancelled", "lost"];
const ROW_PX = matchMedia("(max-width: 760px)");
const DEFAULT_SORT = "-Started";
const SILENT_MS = 10_000;

const words = (row) => `${row.run_id} ${row.name || ""} ${row.env_id || ""} ${row.algorithm || ""} ${row.status}`.toLowerCase();
const lasts = (row) => (row.status === "running" ? Date.now() : row.ended_at || row.last_seen_at) - row.started_at;

export function statusOf(row) {
  const silent = Date.now() - (row.last_seen_at || 0);
  if (row.status === "running" && silent > SILENT_MS) return ["silent", `silent ${duration(silent)}`];
  return [row.status, row.status];
}

export function showStatus(el, row) {
  const [kind, word] = statusOf(row);
  setAttr(el, "data-status", kind);
  setText(el, word);
}

function text(read, title) {
  return (td, row) => {
    setText(td, read(row));
    if (title) td.title = title(row);
  };
}

function once(td, make) {
  if (!td.made) {
    td.made = make();
    td.replaceChildren(...td.made);
  }
  return td.made;
}

function fillStatus(td, row) {
  const [el] = once(td, () => [h("span", { className: "status" })]);
  showStatus(el, row);
  td.title = row.reason || "";
}

function fillName(td, row) {
  const [link, id] = once(td, () => [h("a"), h("span", { className: "mono" })]);
  link.href = runLink(row.run_id);
  setText(link, row.name || row.run_id);
  setText(id, row.name && row.name !== row.run_id ? row.run_id : "");
  td.title = row.run_id;
}

function fillAgents(td, row) {
  const first = row.first_agent, more = (row.agents || 0) - 1;
  const [link, rest] = once(td, () => [h("a"), h("span", { className: "muted" })]);
  td.classList.toggle("many", more > 0);
  link.hidden = first === undefined;
  if (first !== undefined) {
    link.href = runLink(row.run_id, { agent: first });
    link.title = first;
    setText(link, `Live-${first}-Training`);
  }
  setText(rest, more > 0 ? ` +${more}` : "");
}

function fillReturn(td, row) {
  const [box] = once(td, () => [h("div", { className: "return-cell" }, spark(), h("span"))]);
  box.firstChild.update(row.returns);
  setText(box.lastChild, number(row.mean_return));
}

const COLUMNS = [
  { name: "Status", cls: "state", width: "112px", fill: fillStatus, sort: (r) => STATES.indexOf(r.status) },
  { name: "Run", cls: "name", width: "18%", fill: fillName, sort: (r) => (r.name || r.run_id).toLowerCase() },
  { name: "Environment", cls: "minor", width: "10%", fill: text((r) => r.env_id || "–", (r) => r.env_id || ""), sort: (r) => r.env_id || "" },
  { name: "Algorithm", cls: "minor", width: "8%", fill: text((r) => r.algorithm || "–", (r) => r.algorithm || ""), sort: (r) => r.algorithm || "" },
  { name: "Agents", cls: "agents", fill: fillAgents, sort: (r) => r.agents || 0 },
  { name: "Steps", cls: "number minor", width: "72px", fill: text((r) => compact(r.steps), (r) => exact(r.steps)), sort: (r) => r.steps || 0 },
  { name: "Episodes", cls: "number minor", width: "78px", fill: text((r) => compact(r.episodes), (r) => exact(r.episodes)), sort: (r) => r.episodes || 0 },
  { name: "Steps/s", cls: "number minor", width: "64px", fill: text((r) => rate(r.steps_per_second)), sort: (r) => r.steps_per_second || 0 },
  { name: "Return", cls: "number return", width: "132px", title: "Mean of the last 100 episodes", fill: fillReturn, sort: (r) => r.mean_return ?? -Infinity },
  { name: "Started", cls: "number minor", width: "78px", fill: text((r) => moment(r.started_at), (r) => iso(r.started_at)), sort: (r) => r.started_at || 0 },
  { name: "Duration", cls: "number minor", width: "96px", fill: text((r) => duration(lasts(r))), sort: lasts },
];

export class Home {
  constructor() {
    this.runs = new Map();
    this.filter = byId("run-filter");
    this.filter.addEventListener("input", () => patch({ q: this.filter.value }, { replace: true }));
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.addEventListener("click", () => copy(button.dataset.copy, "Command copied"));
    }
    for (const button of byId("run-states").children) {
      button.addEventListener("click", () => patch({ status: button.dataset.state }));
    }
  }

  view() {
    return { page: "runs" };
  }

  enter(state) {
    byId("home").hidden = false;
    this.table ||= new Rows(byId("runs"), {
      columns: COLUMNS, rowHeight: ROW_PX.matches ? 65 : 40, caption: "Runs", className: "runs-grid", hold: true,
      onOpen: (row, event) => event.target.closest("a") || go(runLink(row.run_id)),
      onSort: (name) => patch({ sort: here().sort === `-${name}` ? name : `-${name}` }),
    });
    this.timer ||= setInterval(() => this.draw(), 1000); // silence and durations grow by themselves
    this.change(state);
  }

  leave() {
    byId("home").hidden = true;
    clearInterval(this.timer);
    this.timer = null;
    this.table.destroy();
    this.table = null;
  }

  change(state) {
    this.state = state;
    if (document.activeElement !== this.filter) this.filter.value = state.q || "";
    this.draw();
  }

  apply(delta) {
    if (delta.full) this.runs.clear();
    for (const run of delta.runs || []) this.runs.set(run.run_id, run);
    for (const id of delta.gone || []) this.runs.delete(id);
    this.loaded = true;
    this.draw();
  }

  draw() {
    if (!this.table) return;
    byId("runs-empty").hidden = !this.loaded || this.runs.size > 0;
    byId("runs-some").hidden = !this.loaded || this.runs.size === 0;
    byId("runs-waiting").hidden = Boolean(this.loaded);
    if (!this.runs.size) return;
    const all = [...this.runs.values()], { q = "", status = "", sort = DEFAULT_SORT } = this.state;
    const needles = q.toLowerCase().split(/\s+/).filter(Boolean);
    const found = all.filter((row) => needles.every((word) => words(row).includes(word)));
    this.#counts(found, status);
    const rows = found.filter((row) => !status || row.status === status);
    byId("runs-none").hidden = rows.length > 0;
    this.table.showSort(sort.replace(/^-/, ""), sort.startsWith("-"));
    this.table.set(this.#sorted(rows, sort));
  }

  #counts(rows, status) {
    for (const button of byId("run-states").children) {
      const state = button.dataset.state;
      setText(button.lastElementChild, rows.filter((row) => !state || row.status === state).length);
      setAttr(button, "aria-pressed", String(state === status));
    }
  }

  #sorted(rows, sort) {
    const descending = sort.startsWith("-");
    const column = COLUMNS.find(({ name }) => name === sort.replace(/^-/, "")) || COLUMNS[9];
    const sign = descending ? -1 : 1;
    const keyed = rows.map((row) => [column.sort(row), row]);
    keyed.sort(([a, r], [b, s]) => sign * (a < b ? -1 : a > b ? 1 : 0) || (r.run_id < s.run_id ? 1 : -1));
    return keyed.map(([, row]) => row);
  }

  title() {
    const running = [...this.runs.values()].filter((row) => row.status === "running").length;
    return [running ? `${running} running` : "Runs", running ? "running" : "idle"];
  }
}
