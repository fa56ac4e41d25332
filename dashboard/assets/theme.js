// Before the first paint: the theme that this browser has chosen, and where dcc.Graph finds Plotly.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)"), { plotly } = document.currentScript.dataset;
  /** A setting as Dash keeps it: an input of the page's dialog with persistence. */
  const setting = (name) => {
    try { return JSON.parse(localStorage.getItem(`_dash_persistence.setting-${name}.value.true`))?.[0]; } catch { /* nothing kept */ }
  };
  const apply = () => {
    const theme = setting("theme") || "system";
    document.documentElement.setAttribute("data-bs-theme", theme === "system" ? (dark.matches ? "dark" : "light") : theme);
  };
  window.stepstream = { setting };
  dark.addEventListener("change", apply);
  addEventListener("change", ({ target }) => target.id?.startsWith("setting-") && setTimeout(() => { apply(); dispatchEvent(new Event("settings")); }));
  apply();
  // Dash would load the whole of Plotly, four times as large.
  if (plotly) Object.defineProperty(window, "_dashPlotlyJSURL", { get: () => plotly, set() {} });
})();
