// Before the first paint: the theme that this browser has chosen, and where dcc.Graph finds Plotly.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)"), { plotly } = document.currentScript.dataset;
  const apply = () => {
    let chosen = "system";
    try { chosen = JSON.parse(localStorage.getItem("settings"))?.theme || chosen; } catch { /* as the system */ }
    const theme = chosen === "system" ? (dark.matches ? "dark" : "light") : chosen;
    document.documentElement.setAttribute("data-bs-theme", theme);
  };
  dark.addEventListener("change", apply);
  addEventListener("settings", apply);
  apply();
  // Dash would load the whole of Plotly, four times as large.
  if (plotly) Object.defineProperty(window, "_dashPlotlyJSURL", { get: () => plotly, set() {} });
})();
