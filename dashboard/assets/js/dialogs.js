// The dialogs that Dash draws: opened and filled from here.

import { change, setting } from "./settings.js";

const SETTINGS = ["updates", "buffer", "theme"];

/** Open a dialog; `props` of parts of it are by their ids. Dash may not have drawn its part of the page yet. */
export function openDialog(name, props = {}) {
  if (!document.getElementById("history-steps") || !window.dash_clientside?.set_props) {
    setTimeout(openDialog, 20, name, props);
    return;
  }
  for (const id in props) window.dash_clientside.set_props(id, props[id]);
  window.dash_clientside.set_props(name, { is_open: true });
}

export function openSettings() {
  openDialog("settings", Object.fromEntries(SETTINGS.map((name) => [`setting-${name}`, { value: String(setting(name)) }])));
}

document.addEventListener("change", ({ target }) => {
  const name = target.id?.startsWith("setting-") && target.id.slice("setting-".length);
  if (SETTINGS.includes(name)) change(name, name === "theme" ? target.value : Number(target.value));
});
