// Before the first paint, so that no page flashes in the other theme.
(() => {
  let theme = "system";
  try {
    theme = JSON.parse(localStorage.getItem("stepstream.settings") || "{}").theme || theme;
  } catch {
    // a browser that keeps nothing: the system's theme
  }
  if (theme === "system") theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.documentElement.dataset.theme = theme;
})();
