// One agent: curve, newest frame, counters, charts and tables. Counters and caption are painted with every
// delta, charts and tables at most eight times a second: eyes read no faster.

import { Chart } from "../chart.js";
import { byId, colour, copy, h, setAttr, setText } from "../dom.js";
import { number, rate } from "../format.js";
import { showCaption, showFrame } from "../frame.js";
import { here, patch } from "../router.js";
import { Rows } from "../rows.js";
import { Rolling, Series } from "../series.js";
import { setting } from "../settings.js";
import { EPISODES, STEPS, tsv } from "./columns.js";
import { Minute, showCounters } from "./counters.js";
import { History, onRow } from "./history.js";
import { look, Past, showText } from "./step.js";

const WINDOW = 100;
const HEAVY_MS = 125;
const BUSY_MS = 25; // as long as a delta takes to the screen where the machine has time
const BUSY_SHARE = 20;
const REFRESH_MS = 3000;
const BESIDE = 2;
const ROW_PX = 28;
const LONG = ["action", "observation", "info"];
const COLUMNS = { steps: STEPS, episodes: EPISODES };

export class Agent {
  constructor() {
    this.history = new History();
    this.past = new Past({ show: (frame, note) => this.#show(frame, note), newest: () => this.#newest() });
    onRow({
      open: (row, field) => this.#open(row, LONG.includes(field) && row[field] ? field : null),
      reach: (row) => row && this.past.shown && this.kind === "steps" && look(row, { replace: true }),
    });
    byId("metric-chips").addEventListener("click", (event) => this.#toggleMetric(event));
    for (const [id, key] of [["table-kinds", "table"], ["table-modes", "rows"]]) {
      for (const button of byId(id).children) button.addEventListener("click", () => patch({ [key]: button.dataset.value }));
    }
    byId("episode-clear").addEventListener("click", () => patch({ episode: null }));
    byId("copy-tsv").addEventListener("click", () => this.#copy());
  }

  enter() {
    this.tone = null;
    this.rows = { steps: [], episodes: [] };
    this.curve = new Series();
    this.mean = new Series();
    this.rolling = new Rolling(WINDOW);
    this.reward = new Series();
    this.seen = { shown: 0, thinned: 0, missed: 0 };
    this.counted = null;
    this.refreshed = undefined;
    this.lag = null;
    this.names = new Set();
    this.rewardEpisode = undefined;
    this.metrics = new Map();
    this.added = { steps: 0, episodes: 0 };
    this.minute = new Minute();
    this.newestFrame = null;
    this.#newest();
    byId("metric-bar").hidden = true;
    showCounters({}, this.seen, false, null, this.minute);
  }

  leave() {
    this.#dropCharts();
    this.table?.destroy();
    this.table = null;
    byId("held").hidden = true;
    this.history.hide();
    this.past.leave();
    showFrame(null);
    byId("metric-chips").replaceChildren();
    clearTimeout(this.timer);
    cancelAnimationFrame(this.asked);
    this.timer = null;
  }

  /** Another agent, or the first one of a page. */
  open(agentId, state) {
    this.leave();
    this.enter();
    this.id = agentId;
    this.tone = colour(agentId);
    this.#makeCharts();
    this.change(state);
  }

  #makeCharts() {
    const soft = { name: "episode", colour: this.tone, raw: true };
    const mean = { name: `mean of ${WINDOW}`, colour: this.tone };
    this.curveChart = new Chart(byId("curve"), {
      lines: [soft, mean], label: "Return per episode", xName: "Episode", empty: "No finished episode yet",
      onPick: (x) => patch({ episode: x, table: "steps", at: null }),
    });
    this.rewardChart = new Chart(byId("reward"), {
      lines: [{ name: "reward", colour: this.tone }], label: "Reward per step of the episode", xName: "Step", empty: "No step yet",
    });
  }

  #dropCharts() {
    for (const { chart, card } of this.metrics?.values() || []) {
      chart.destroy();
      card.remove();
    }
    this.curveChart?.destroy();
    this.rewardChart?.destroy();
  }

  /** The address changed, the agent did not. */
  change(state) {
    this.state = state;
    const kind = state.table === "episodes" ? "episodes" : "steps";
    if (kind !== this.kind || !this.table) this.#makeTable(kind);
    this.#dropMetrics();
    for (const button of byId("table-kinds").children) setAttr(button, "aria-pressed", String(button.dataset.value === kind));
    byId("episode-chip").hidden = !state.episode;
    setText(byId("episode-chip-text"), `Episode ${state.episode}`);
    this.past.change(state, this.id);
    this.showMode();
  }

  showMode() {
    const mode = this.mode();
    for (const button of byId("table-modes").children) setAttr(button, "aria-pressed", String(button.dataset.value === mode));
    byId("rows").hidden = mode !== "newest";
    byId("history").hidden = mode !== "all";
    const wanted = { run: this.state.run, agent: this.id, kind: this.kind, episode: this.state.episode ?? null };
    if (mode === "all") this.history.show(wanted);
    else this.history.hide();
    byId("download").href = `/download?${new URLSearchParams(Object.entries(wanted).filter(([, v]) => v !== null))}`;
    this.curveChart?.setMark(this.state.episode ? Number(this.state.episode) : null);
  }

  // What is over, or looked at by episode, is read from SQL; what runs shows its newest.
  mode() {
    if (this.state.rows) return this.state.rows;
    return this.state.episode || this.over ? "all" : "newest";
  }

  #makeTable(kind) {
    this.kind = kind;
    this.table?.destroy();
    this.table = new Rows(byId("rows"), {
      columns: COLUMNS[kind], rowHeight: ROW_PX, caption: `Newest ${kind}`, hold: true,
      onOpen: (row, event) => this.#open(row, event.target.closest("td")?.dataset.long || null),
    });
    this.table.onHeld = (held) => (byId("held").hidden = !held);
    this.table.set(this.rows[kind]);
  }

  #open(row, long) {
    if (long) return showText(`${long[0].toUpperCase()}${long.slice(1)} of step ${row.step ?? "–"}`, row, long);
    if (this.kind === "steps") look(row);
    else if (row.episode !== null) patch({ episode: row.episode, table: "steps", rows: null, at: null });
  }

  #show(frame, note) {
    showFrame(frame, note);
    this.#frame(Boolean(frame));
  }

  #newest() {
    this.#show(this.newestFrame ?? null);
    showCaption(this.rows?.steps[0]);
  }

  apply(part, run, paintMs) {
    if (part.reset) this.#reset(part);
    if (part.frame !== undefined) this.#takeFrame(part.frame);
    this.#takeEpisodes(part);
    this.#takeSteps(part);
    this.counted = part.counters || this.counted;
    const late = part.lag_ms ?? part.counters?.lag_ms;
    if (late !== null && late !== undefined) this.lag = late + paintMs;
    this.#refreshHistory();
    this.paintMs = paintMs;
    this.#counters(run);
    this.#later();
  }

  /** The table of all rows follows SQL, every few seconds. */
  #refreshHistory() {
    const { stored } = this.counted || {}, now = performance.now();
    if (this.mode() !== "all" || stored === this.refreshed || now - (this.refreshedAt || 0) < REFRESH_MS) return;
    if (this.refreshed !== undefined) this.history.refresh();
    this.refreshed = stored;
    this.refreshedAt = now;
  }

  #reset(part) {
    const { x, y, mean_x: meanX, mean, tail } = part.curve;
    this.curve.fill({ x, y });
    this.mean.fill({ x: meanX, y: mean });
    this.rolling = new Rolling(WINDOW, tail);
    this.reward.clear();
    this.rewardEpisode = undefined;
    this.rows = { steps: [], episodes: [] };
    this.seen = { shown: 0, thinned: 0, missed: 0 };
    for (const { series } of this.metrics.values()) series.clear();
    this.nextStep = 0;
    if (part.episode) {
      this.rewardEpisode = "chosen";
      this.reward.fill(part.episode);
    }
  }

  #takeFrame(frame) {
    this.newestFrame = frame;
    if (!this.past.shown) this.#show(frame);
    else if (frame) this.#frame(true);
  }

  /** With a picture, the rewards make room for it. */
  #frame(framed) {
    byId("frame").hidden = !framed;
    byId("stage").classList.toggle("framed", framed);
    const place = byId(framed ? "metric-charts" : "stage"), card = byId("reward-card");
    if (card.parentElement === place) return;
    framed ? place.prepend(card) : place.append(card);
    this.#dropMetrics();
  }

  #takeEpisodes(part) {
    const rows = part.episodes || [];
    if (!part.reset) for (const row of rows) this.#curvePoint(row);
    this.#keep("episodes", rows);
  }

  #curvePoint({ episode, total_reward: value }) {
    if (typeof value !== "number") return;
    this.curve.append(episode, value);
    this.mean.append(this.curve.xs[this.curve.xs.length - 1], this.rolling.push(value));
  }

  #takeSteps(part) {
    const steps = part.steps || [];
    this.seen.shown += steps.length;
    this.seen.thinned += part.thinned || 0;
    this.seen.missed += part.missed || 0;
    this.#keep("steps", steps);
    for (const step of steps) {
      if (this.rewardEpisode !== "chosen") this.#rewardOf(step);
      for (const [name, value] of Object.entries(parsed(step.metrics))) this.#takeMetric(name, this.nextStep, value);
      this.nextStep += 1;
    }
    const newest = steps[steps.length - 1];
    if (!newest) return;
    if (!this.past.shown) showCaption(newest);
    setAttr(byId("agent"), "data-seq", newest.seq);
  }

  #rewardOf(step) {
    if (step.episode !== this.rewardEpisode) {
      this.reward.clear();
      this.rewardEpisode = step.episode;
    }
    this.reward.append(step.step, typeof step.reward === "number" ? step.reward : null);
  }

  #takeMetric(name, x, value) {
    if (!this.names.has(name)) {
      this.names.add(name);
      this.#chips();
    }
    if (this.#charted().includes(name)) this.#metric(name).series.push(x, typeof value === "number" ? value : null);
  }

  #keep(kind, rows) {
    if (!rows?.length) return;
    this.rows[kind] = [...rows].reverse().concat(this.rows[kind]).slice(0, setting("buffer"));
    this.added[kind] += rows.length;
  }

  #counters(run) {
    showCounters(this.counted || {}, this.seen, run?.status === "running", this.lag, this.minute);
    const mean = this.rolling.mean(), speed = this.counted?.rate;
    setText(byId("curve-value"), mean === null ? "" : `${number(mean)} mean of ${this.rolling.values.length}`);
    setText(byId("agent-rate"), run?.status === "running" && speed ? `${rate(speed)} steps/s` : "");
  }

  #later() {
    // A busy machine draws less often, so that counters and the newest step stay quick, and all of it with a
    // delta: there, a frame costs more than what is in it.
    const paint = this.paintMs || 0, busy = paint > BUSY_MS;
    const left = Math.max(HEAVY_MS, busy ? BUSY_SHARE * paint : 0) - (performance.now() - (this.drawn || 0));
    if (busy && left <= 0) this.#drawAll();
    else this.timer ??= setTimeout(() => this.#draw(this.#parts()), Math.max(left, 0) + (busy ? HEAVY_MS : 0));
  }

  #drawAll() {
    clearTimeout(this.timer);
    cancelAnimationFrame(this.asked);
    for (const part of this.#parts()) part();
    this.#drawn();
  }

  /** One part a frame: all of them in one would make the newest step wait. */
  #draw([part, ...rest]) {
    part();
    if (rest.length) this.asked = requestAnimationFrame(() => this.#draw(rest));
    else this.#drawn();
  }

  #drawn() {
    this.timer = null;
    this.drawn = performance.now();
  }

  #parts() {
    return [
      () => this.curveChart.set([this.curve, this.mean]),
      () => this.#drawReward(),
      ...[...this.metrics.values()].map(({ series, chart, value }) => () => {
        chart.set([series]);
        setText(value, number(series.last));
      }),
      () => {
        this.table.set(this.rows[this.kind], this.added[this.kind]);
        this.added = { steps: 0, episodes: 0 };
      },
    ];
  }

  #drawReward() {
    const episode = this.rewardEpisode === "chosen" ? this.state.episode : this.rewardEpisode;
    this.rewardChart.set([this.reward]);
    setText(byId("reward-title"), `Reward per step${episode === undefined || episode === null ? "" : ` · episode ${episode}`}`);
  }

  #metric(name) {
    if (!this.metrics.has(name)) {
      const box = h("div", { className: "chart small" }), value = h("span", { className: "value muted" });
      const head = h("div", { className: "panel-head" }, h("h3", { title: name }, name), h("span", { className: "space" }), value);
      const card = h("section", { className: "card" }, head, box);
      byId("metric-charts").append(card);
      const chart = new Chart(box, { lines: [{ name, colour: colour(name) }], label: name, xName: "Step" });
      this.metrics.set(name, { series: new Series(), chart, value, card });
    }
    return this.metrics.get(name);
  }

  /** The chosen numbers; without a choice, as many as stand beside the rewards. */
  #charted() {
    if (this.state.metric.length) return this.state.metric;
    return byId("stage").classList.contains("framed") ? [...this.names].slice(0, BESIDE) : [];
  }

  #dropMetrics() {
    const drawn = this.#charted();
    for (const [name, { chart, card }] of this.metrics) {
      if (drawn.includes(name)) continue;
      chart.destroy();
      card.remove();
      this.metrics.delete(name);
    }
  }

  #chips() {
    const chosen = new Set(this.#charted());
    const chips = [...this.names].sort().map((name) =>
      h("button", { type: "button", className: "chip", "aria-pressed": String(chosen.has(name)), "data-metric": name }, name));
    byId("metric-chips").replaceChildren(...chips);
    byId("metric-bar").hidden = !chips.length;
  }

  #toggleMetric(event) {
    const name = event.target.closest(".chip")?.dataset.metric;
    if (!name) return;
    const chosen = new Set(this.#charted());
    if (!chosen.delete(name)) chosen.add(name);
    patch({ metric: [...chosen] });
  }

  #copy() {
    if (this.mode() === "all") return this.history.copy();
    copy(tsv(COLUMNS[this.kind], this.rows[this.kind]), `${this.rows[this.kind].length} rows copied`);
  }
}

function parsed(text) {
  try {
    return (text && JSON.parse(text)) || {};
  } catch {
    return {}; // only its head is here
  }
}
