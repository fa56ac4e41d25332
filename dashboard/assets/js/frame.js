// The newest picture: an image, a grid, or a terminal's text with colours.

import { byId, colour, h, setText } from "./dom.js";
import { number, oneLine } from "./format.js";

export function showFrame(frame, note = "") {
  const box = byId("frame");
  box.querySelector(".of")?.remove();
  if (!frame) box.replaceChildren();
  else if (frame.media_type.startsWith("image/")) showImage(box, frame);
  else if (frame.media_type === "application/json") showGrid(box, frame.text);
  else box.replaceChildren(h("pre", {}, ...ansi(frame.text)));
  if (note) box.append(h("p", { className: "of" }, note));
}

/** The grid that a step out of SQL carries in its extras; null where it has none. */
export function gridOf(extras) {
  try {
    const payload = JSON.parse(extras || "{}").render_payload;
    return payload?.mode === "grid" ? { media_type: "application/json", text: JSON.stringify(payload) } : null;
  } catch {
    return null;
  }
}

function showImage(box, frame) {
  let img = box.querySelector("img");
  if (!img) box.replaceChildren((img = h("img", { alt: "Newest frame", decoding: "async" })));
  img.src = `data:${frame.media_type};base64,${frame.base64}`;
  img.alt = `Frame of episode ${frame.episode ?? "–"}, step ${frame.step ?? "–"}`;
}

/** A grid of letters or numbers, as FrozenLake's: one colour a value, where the agent stands has a ring. */
function showGrid(box, text) {
  let payload;
  try {
    payload = JSON.parse(text);
  } catch {
    return box.replaceChildren(h("pre", {}, text));
  }
  const grid = payload.grid || [];
  const rows = grid.map((row) => (typeof row === "string" ? [...row] : [row].flat()));
  const columns = Math.max(1, ...rows.map((row) => row.length));
  const size = Math.max(6, Math.min(Math.floor(164 / Math.max(rows.length, 1)) - 2, Math.floor(268 / columns) - 2, 44));
  const place = [payload.agent_position, payload.agent_pos, payload.agent, payload.position].find(Array.isArray);
  const cells = rows.flatMap((row, r) => row.map((value, c) => {
    const here = value === "agent" || (place && place[0] === r && place[1] === c), words = String(value);
    const type = Math.min(size / Math.max(words.length, 2) * 1.5, 15);
    const style = `background:${tint(value)};font-size:${type}px`;
    return h("span", { className: here ? "here" : "", title: words, style }, type < 7 ? "" : words);
  }));
  const style = `grid-template-columns:repeat(${columns},${size}px);grid-auto-rows:${size}px`;
  box.replaceChildren(h("div", { className: "cells", role: "img", "aria-label": `Grid, ${rows.length} by ${columns}`, style }, ...cells));
}

const tint = (value) => `color-mix(in srgb, ${colour(`cell ${value}`)} 22%, var(--card))`;

const SGR = ["#808080", "--bad", "--good", "--warn", "--series-0", "--series-3", "--series-5", "--text"];

/** Text with ANSI colours as spans; every other escape is left out. */
export function ansi(text) {
  const out = [];
  let ink = "", ground = "", bold = false;
  // eslint-disable-next-line no-control-regex
  for (const part of text.split(/(\x1b\[[0-9;]*m)/)) {
    const codes = part.match(/^\x1b\[([0-9;]*)m$/);
    if (!codes) {
      const plain = part.replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "");
      if (!plain) continue;
      const style = `${ink && `color:${ink};`}${ground && `background:${ground};color:var(--page);`}${bold ? "font-weight:600" : ""}`;
      out.push(style ? h("span", { style }, plain) : plain);
      continue;
    }
    for (const code of codes[1].split(";").map(Number)) {
      if (code === 0) [ink, ground, bold] = ["", "", false];
      else if (code === 1) bold = true;
      else if (code >= 30 && code <= 37) ink = paint(code - 30);
      else if (code >= 90 && code <= 97) ink = paint(code - 90);
      else if (code >= 40 && code <= 47) ground = paint(code - 40);
      else if (code === 39) ink = "";
      else if (code === 49) ground = "";
    }
  }
  return out;
}

const paint = (k) => (SGR[k].startsWith("--") ? `var(${SGR[k]})` : SGR[k]);

/** Episode, step, action and reward of the newest step; null: there is none. */
export function showCaption(newest) {
  const step = newest || {};
  setText(byId("now-episode"), step.episode ?? "–");
  setText(byId("now-step"), step.step ?? "–");
  setText(byId("now-action"), oneLine(step.action));
  setText(byId("now-reward"), number(step.reward));
  byId("now-action").title = step.action ?? "";
}
