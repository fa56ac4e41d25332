// One run: head, agents, and one of the panels: an agent, the run's metrics, its log, its configuration.

import { byId, h, setAttr, setText } from "../dom.js";
import { compact, duration, exact, iso, moment, rate, short } from "../format.js";
import { runLink } from "../router.js";
import { Agent } from "./agent.js";
import { Agents } from "./agents.js";
import { showStatus, statusOf } from "./home.js";
import { Log } from "./log.js";
import { Metrics } from "./metrics.js";

const PANELS = ["agent", "metrics", "log", "config"];

export class Run {
  constructor() {
    this.agents = new Agents();
    this.agent = new Agent();
    this.metrics = new Metrics();
    this.log = new Log();
  }

  enter(state) {
    byId("run").hidden = false;
    this.run = null;
    this.newest = null;
    this.id = state.run;
    this.openAgent = null;
    this.panel = null;
    this.agents.clear();
    this.#waiting(true);
    this.timer = setInterval(() => this.#tick(), 1000);
    this.change(state);
  }

  leave() {
    byId("run").hidden = true;
    clearInterval(this.timer);
    this.agent.leave();
    this.metrics.leave();
    this.log.leave();
    this.agents.clear();
  }

  /** What the server should send. The agent is the address's, else the first one there is. */
  view(state) {
    const panel = PANELS.includes(state.panel) ? state.panel : "agent";
    const view = { page: "run", run: state.run, panel };
    if (panel === "agent") Object.assign(view, { agent: state.agent || null, episode: state.episode || null });
    if (panel === "metrics") view.metric = state.metric;
    return view;
  }

  change(state) {
    if (state.run !== this.id) {
      this.leave();
      return this.enter(state);
    }
    this.state = state;
    const panel = this.view(state).panel;
    this.#panel(panel);
    if (panel === "agent") this.#showAgent(state.agent || this.openAgent);
    if (panel === "metrics") this.metrics.change(state);
    if (panel === "log") this.log.change(state);
  }

  #panel(panel) {
    if (panel === this.panel) return;
    this.panel = panel;
    for (const name of PANELS) byId(`panel-${name}`).hidden = name !== panel;
    byId("run-body").classList.toggle("whole", panel !== "agent");
    byId("agents").hidden = panel !== "agent";
    if (panel === "metrics") this.metrics.enter();
    else this.metrics.leave();
    if (panel === "log") this.log.enter();
    else this.log.leave();
    if (panel !== "agent") {
      this.agent.leave();
      this.openAgent = null;
    }
    this.#links();
  }

  #links() {
    for (const link of byId("run-panels").children) {
      const name = link.dataset.panel;
      link.href = runLink(this.id, { agent: this.state?.agent, panel: name === "agent" ? null : name });
      setAttr(link, "aria-current", name === this.panel ? "page" : null);
    }
  }

  #showAgent(agentId) {
    if (!agentId) return;
    if (agentId === this.openAgent) return this.agent.change(this.state);
    this.openAgent = agentId;
    this.agents.choose(agentId);
    this.agent.over = this.run && this.run.status !== "running";
    this.agent.open(agentId, this.state);
    this.#links();
  }

  apply(delta) {
    if (delta.full) this.#waiting(false, delta.unknown);
    if (delta.run) this.#head(delta.run, delta.counts);
    if (delta.agents) this.agents.update(delta.agents, this.run?.status || "running", Date.now());
    const part = delta.agent;
    if (part && this.panel === "agent") {
      const other = part.id !== this.openAgent;
      if (other) this.#showAgent(part.id);
      this.agents.choose(part.id);
      if (!other || part.reset) this.agent.apply(part, this.run, delta.paint_ms);
    }
    if (delta.metrics) this.metrics.apply(delta.metrics);
    if (delta.logs) this.log.apply(delta.logs);
  }

  #waiting(on, unknown = false) {
    byId("run-waiting").hidden = !on;
    byId("run-unknown").hidden = !unknown;
    byId("run-known").hidden = on || unknown;
    if (unknown) setText(byId("run-unknown-id"), this.id);
  }

  #head(run, counts) {
    this.run = run;
    setText(byId("run-name"), run.name || run.run_id);
    byId("run-name").title = run.run_id;
    showStatus(byId("run-status"), run);
    this.#facts(run);
    this.#failure(run);
    this.#config(run);
    if (counts) this.#flow(counts, run);
    const over = run.status !== "running";
    if (over !== this.agent.over) {
      this.agent.over = over;
      if (this.openAgent) this.agent.showMode();
    }
  }

  #facts(run) {
    const lasts = (run.status === "running" ? Date.now() : run.ended_at || run.last_seen_at) - run.started_at;
    const facts = [
      ["", run.name && run.name !== run.run_id ? run.run_id : "", "mono"],
      ["Environment", run.env_id], ["Algorithm", run.algorithm], ["Project", run.project, "minor"],
      ["Started", run.started_at ? moment(run.started_at) : "", "", iso(run.started_at)],
      ["Duration", run.started_at ? duration(lasts) : ""],
      ["Host", run.host, "minor"], ["Commit", run.git_commit?.slice(0, 10), "minor mono", run.git_commit],
    ].filter(([, value]) => value);
    const key = JSON.stringify(facts);
    if (key === this.factsKey) return;
    this.factsKey = key;
    byId("run-facts").replaceChildren(...facts.map(([name, value, cls, title]) =>
      h("span", { className: `fact ${cls?.includes("minor") ? "minor" : ""}`, title: title || value },
        name && `${name} `, h("b", { className: cls?.includes("mono") ? "mono" : "" }, value))));
  }

  #failure(run) {
    const box = byId("run-failure");
    box.hidden = run.status !== "failed" && !(run.status === "lost" && run.reason);
    if (box.hidden) return;
    setText(byId("run-reason"), run.reason || "The worker said no reason.");
    setText(byId("run-last-words"), (run.last_lines || []).join("\n"));
    byId("run-last-words").hidden = !run.last_lines?.length;
  }

  #config(run) {
    if (run.config === this.configText) return;
    this.configText = run.config;
    let config = {};
    try {
      config = JSON.parse(run.config || "{}") || {};
    } catch {
      config = { config: run.config };
    }
    const rows = flatten(config).flatMap(([key, value]) => [h("dt", {}, key), h("dd", {}, value)]);
    byId("config").replaceChildren(...rows);
    byId("config-empty").hidden = rows.length > 0;
  }

  #flow(counts, run) {
    const { emitted, on_kafka: kafka, in_sql: sql, dead_letters: dead, dropped, latency_ms: latency, lag } = counts;
    const behind = emitted !== null && sql !== null && emitted - sql;
    this.#number("flow-emitted", emitted);
    this.#number("flow-kafka", kafka);
    this.#number("flow-sql", sql, run.status !== "running" && behind > 0 ? "warn" : "");
    this.#number("flow-dead", dead, dead ? "bad" : "");
    this.#number("flow-dropped", dropped, "warn");
    byId("flow-dropped-box").hidden = !dropped;
    setText(byId("flow-latency"), run.status === "running" && latency ? short(latency) : "–");
    setText(byId("flow-lag"), lag ? compact(lag) : "0");
    setText(byId("flow-rate"), run.status === "running" ? rate(run.steps_per_second) : "–");
  }

  #number(id, value, cls = "") {
    const el = byId(id);
    setText(el, compact(value));
    el.title = exact(value);
    setAttr(el, "data-value", value ?? "");
    setAttr(el.parentElement, "class", cls);
  }

  #tick() {
    if (!this.run) return;
    showStatus(byId("run-status"), this.run);
    this.#facts(this.run);
    this.agents.states(this.run.status, Date.now());
  }

  title() {
    if (!this.run) return [this.id, "idle"];
    const [kind] = statusOf(this.run);
    const agent = this.panel === "agent" && this.openAgent ? `${this.openAgent} · ` : "";
    return [`${agent}${this.run.name || this.run.run_id}`, kind];
  }

  neighbour(by) {
    if (this.panel === "agent") this.agents.step(by);
  }
}

function flatten(value, prefix = "") {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    return [[prefix || "value", typeof value === "string" ? value : JSON.stringify(value)]];
  }
  return Object.entries(value).flatMap(([key, item]) => flatten(item, prefix ? `${prefix}.${key}` : key));
}

