// Cells that are more than text. Everything else about the tables is Python's.
(() => {
  const cells = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
  const functions = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});
  const h = (...all) => window.React.createElement(...all);
  const run = (id) => `/runs/${encodeURIComponent(id)}`;

  const two = (n) => String(n).padStart(2, "0");
  const spark = (path, width, height) => h("svg", { className: "spark", width, height, "aria-hidden": true }, h("path", { d: path }));

  cells.RunStatus = ({ data }) => data.status && h("span", { className: "status", "data-status": data.status, title: data.reason }, data.words);
  cells.RunLink = ({ data }) => data.run_id ? h("a", { href: run(data.run_id), title: data.run_id }, data.name) : h("b", null, data.group, h("small", null, data.count));
  cells.AgentLink = ({ data }) => data.agents ? h("span", null, h("a", { href: `${run(data.run_id)}?agent=${encodeURIComponent(data.agents)}` }, `Live-${data.agents}-Training`), data.more ? ` +${data.more}` : "") : "";
  cells.Sparkline = ({ data, value }) => value && h("span", { className: "return" }, spark(data.spark, 58, 18), value);
  cells.SortHead = ({ displayName, patch, by }) => h("button", { type: "button", className: "sort", "data-patch": patch, "data-by": by }, displayName);

  functions.stepstreamPlain = (value) => value ?? "–";
  functions.stepstreamClock = (ms) => { if (ms == null) return "–"; const t = new Date(ms); return `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}.${String(t.getMilliseconds()).padStart(3, "0")}`; };
  functions.stepstreamNumber = (v) => typeof v !== "number" || Number.isInteger(v) ? String(v ?? "–") : Math.abs(v) >= 1e6 || Math.abs(v) < 1e-3 ? v.toExponential(2) : String(Number(v.toPrecision(4)));
  functions.stepstreamYesNo = (value) => value == null ? "–" : value ? "yes" : "no";
  functions.stepstreamLine = (text) => { if (text == null) return "–"; let found = String(text); try { if (found[0] === '"') found = JSON.parse(found); } catch { /* cut */ } return found.replace(/\s+/g, " ").slice(0, 300); };

  functions.stepstreamTheme = (theme) => theme.withParams({
    backgroundColor: "var(--card)", foregroundColor: "var(--text)", accentColor: "var(--accent)", borderColor: "var(--grid)",
    headerBackgroundColor: "var(--card)", headerTextColor: "var(--muted)", headerFontSize: 12, headerFontWeight: 400,
    rowHoverColor: "var(--raised)", fontFamily: "inherit", fontSize: 13, cellHorizontalPadding: 12, wrapperBorder: false,
    wrapperBorderRadius: 0, oddRowBackgroundColor: "transparent", headerColumnResizeHandleColor: "transparent", browserColorScheme: "inherit",
  });
})();
