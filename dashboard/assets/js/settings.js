// The page's own settings: kept in this browser, each with its default.

const KEY = "stepstream.settings";
const DEFAULTS = { updates: 60, buffer: 200, theme: "system" };

let values = load();
const listeners = new Set();

function load() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) || "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

export const setting = (name) => values[name];

export function change(name, value) {
  values = { ...values, [name]: value };
  try {
    localStorage.setItem(KEY, JSON.stringify(values));
  } catch {
    // a browser that keeps nothing: the setting holds until the page is closed
  }
  for (const listener of listeners) listener(name, value);
}

export const onChange = (listener) => listeners.add(listener);

const dark = matchMedia("(prefers-color-scheme: dark)");

export function applyTheme() {
  const theme = values.theme === "system" ? (dark.matches ? "dark" : "light") : values.theme;
  document.documentElement.dataset.theme = theme;
}

dark.addEventListener("change", applyTheme);
onChange((name) => name === "theme" && applyTheme());
