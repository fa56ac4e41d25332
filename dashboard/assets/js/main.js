// The page: routes, the push, keys, title and favicon. Dash draws the shell; this fills it.

import { openDialog, openSettings } from "./dialogs.js";
import { byId, setAttr, setText } from "./dom.js";
import { duration } from "./format.js";
import { Live } from "./live.js";
import { here, onRoute, patch } from "./router.js";
import { applyTheme, onChange } from "./settings.js";
import { Home } from "./views/home.js";
import { Run } from "./views/run.js";

const SIGNS = { running: "●", completed: "✓", failed: "✕", silent: "▲" };
const INKS = { running: "#3fb27f", completed: "#3fb27f", failed: "#f0716b", silent: "#e8a33d" };

applyTheme();
let views, live, current = null, subscribed = null, link = "waiting", heard = Date.now();

function start() {
  views = { home: new Home(), run: new Run() };
  live = new Live({ onDelta, onLink });
  onRoute(route);
  settings();
  keys();
  route(here());
  setInterval(tick, 1000);
}

function route(state) {
  const view = views[state.page];
  if (view !== current) {
    current?.leave();
    current = view;
    view.enter(state);
  } else {
    view.change(state);
  }
  subscribe(view.view(state));
  crumb(state);
  title();
}

function subscribe(wanted) {
  const text = JSON.stringify(wanted);
  if (text === subscribed) return;
  subscribed = text;
  live.subscribe(wanted);
}

function onDelta(delta) {
  current.apply(delta);
  setText(byId("notice"), delta.notice || "");
  byId("notice").title = delta.notice || "";
  byId("notice").hidden = !delta.notice;
  if (!delta.run && !delta.runs && !delta.full) return;
  crumb(here());
  title();
}

function onLink(state, at) {
  heard = at;
  if (state === link) return;
  link = state;
  tick();
  title();
}

function tick() {
  const live = link === "live";
  setAttr(byId("link-state"), "data-status", live ? "running" : "silent");
  setText(byId("link-word"), live ? "Live" : link === "waiting" ? "Connecting" : "Reconnecting");
  byId("stale").hidden = live || link === "waiting";
  if (link === "stale") setText(byId("stale-text"), `Reconnecting, last data ${duration(Date.now() - heard)} ago`);
  document.body.classList.toggle("stale-values", link === "stale");
}

function crumb(state) {
  setText(byId("crumb"), state.page === "run" ? views.run.run?.name || state.run : "");
}

function title() {
  const [words, status] = current.title();
  const text = `${SIGNS[status] || "○"} ${words} · stepstream`;
  if (document.title !== text) document.title = text;
  const ink = link === "stale" ? "#e8a33d" : INKS[status] || "#9aa3b2";
  const icon = document.querySelector("link[rel=icon]");
  const dot = status === "failed" ? "M17 17l12 12M29 17L17 29" : status === "completed" ? "M15 24l6 6 9-12" : "M23 23h.01";
  const wide = status === "failed" || status === "completed" ? 5 : 15;
  const href = "data:image/svg+xml," + encodeURIComponent(
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path d="M3 9h14M3 16h9M3 23h6" stroke="#6aa8ff" stroke-width="4" stroke-linecap="round"/>` +
    `<path d="${dot}" stroke="${ink}" stroke-width="${wide}" stroke-linecap="round" stroke-linejoin="round" fill="none"/></svg>`);
  if (icon.href !== href) icon.href = href;
}

function settings() {
  onChange((name) => name === "buffer" && live.subscribe(JSON.parse(subscribed)));
  byId("open-settings").addEventListener("click", openSettings);
  byId("open-keys").addEventListener("click", () => openDialog("keys"));
}

function keys() {
  addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, select, textarea, [role=dialog]");
    if (event.key === "Escape" && typing?.matches("input")) return leaveField(typing);
    if (typing || event.metaKey || event.ctrlKey || event.altKey) return;
    if (event.key === "/") focusSearch(event);
    else if (event.key === "j" || event.key === "k") neighbour(event.key === "j" ? 1 : -1);
    else if (event.key === "?") openDialog("keys");
    else if (event.key === "Escape" && (here().episode || here().at)) patch({ episode: null, at: null });
  });
}

function leaveField(field) {
  field.value = "";
  field.dispatchEvent(new Event("input"));
  field.blur();
}

function focusSearch(event) {
  const field = [...document.querySelectorAll("[data-search]")].find((el) => el.offsetParent !== null);
  if (!field) return;
  event.preventDefault();
  field.focus();
  field.select();
}

function neighbour(by) {
  if (current === views.run) return views.run.neighbour(by);
  const links = [...document.querySelectorAll(".runs-grid .name a")].filter((el) => el.offsetParent !== null);
  const next = links[links.indexOf(document.activeElement) + by] || links[by > 0 ? 0 : links.length - 1];
  next?.focus();
}

start();
