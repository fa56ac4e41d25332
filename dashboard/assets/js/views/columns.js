// Columns of the two tables of an agent. Each knows how a cell is filled and how it is copied.

import { setText } from "../dom.js";
import { clock, iso, number, oneLine, yesNo } from "../format.js";

const plain = (read) => (td, row) => setText(td, read(row) ?? "–");

function long(key) {
  return (td, row) => {
    setText(td, oneLine(row[key]).slice(0, 300));
    td.dataset.long = row[key] ? key : "";
  };
}

function when(td, row) {
  setText(td, clock(row.timestamp));
  td.title = iso(row.timestamp);
}

function ended(key) {
  return (td, row) => {
    setText(td, yesNo(row[key]));
    td.className = row[key] ? "yes" : "no";
  };
}

export const STEPS = [
  { name: "Timestamp", width: "114px", fill: when, copy: (r) => iso(r.timestamp) },
  { name: "Agent", width: "110px", fill: plain((r) => r.agent), copy: (r) => r.agent },
  { name: "Episode", cls: "number", width: "76px", fill: plain((r) => r.episode), copy: (r) => r.episode },
  { name: "Step", cls: "number", width: "64px", fill: plain((r) => r.step), copy: (r) => r.step },
  { name: "Episode seed", cls: "number", width: "104px", fill: plain((r) => r.episode_seed), copy: (r) => r.episode_seed },
  { name: "Action", cls: "long", width: "110px", fill: long("action"), copy: (r) => r.action },
  { name: "Reward", cls: "number", width: "84px", fill: plain((r) => number(r.reward)), copy: (r) => r.reward },
  { name: "Terminated", width: "92px", fill: ended("terminated"), copy: (r) => r.terminated },
  { name: "Truncated", width: "86px", fill: ended("truncated"), copy: (r) => r.truncated },
  { name: "Observation", cls: "long mono", fill: long("observation"), copy: (r) => r.observation },
  { name: "Info", cls: "long mono", fill: long("info"), copy: (r) => r.info },
];

export const EPISODES = [
  { name: "Timestamp", width: "114px", fill: when, copy: (r) => iso(r.timestamp) },
  { name: "Worker", width: "110px", fill: plain((r) => r.worker), copy: (r) => r.worker },
  { name: "Agent", width: "110px", fill: plain((r) => r.agent), copy: (r) => r.agent },
  { name: "Episode", cls: "number", width: "76px", fill: plain((r) => r.episode), copy: (r) => r.episode },
  { name: "Steps", cls: "number", width: "64px", fill: plain((r) => r.steps), copy: (r) => r.steps },
  { name: "Total reward", cls: "number", width: "104px", fill: plain((r) => number(r.total_reward)), copy: (r) => r.total_reward },
  { name: "Terminated", width: "92px", fill: ended("terminated"), copy: (r) => r.terminated },
  { name: "Truncated", width: "86px", fill: ended("truncated"), copy: (r) => r.truncated },
  { name: "Seed", cls: "number", width: "84px", fill: plain((r) => r.seed), copy: (r) => r.seed },
  { name: "Episode seed", cls: "number", width: "104px", fill: plain((r) => r.episode_seed), copy: (r) => r.episode_seed },
  { name: "Mode", width: "84px", fill: plain((r) => r.mode), copy: (r) => r.mode },
  { name: "Game", fill: plain((r) => r.game), copy: (r) => r.game },
  { name: "Outcome", width: "100px", fill: plain((r) => r.outcome), copy: (r) => r.outcome },
];

/** The rows as tab-separated text with a header, as a spreadsheet takes it. */
export function tsv(columns, rows) {
  const clean = (value) => (value === null || value === undefined ? "" : String(value).replace(/[\t\r\n]+/g, " "));
  const lines = rows.map((row) => columns.map((column) => clean(column.copy(row))).join("\t"));
  return [columns.map(({ name }) => name).join("\t"), ...lines].join("\n");
}
