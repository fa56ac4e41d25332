// Cells that are more than text, and what a click on one does. Everything else about the tables is Python's.
(() => {
  const cells = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
  const functions = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});
  const h = (...all) => window.React.createElement(...all);
  const spark = (path, tone, width, height) => h("svg", { className: "spark", width, height, "aria-hidden": true }, h("path", { d: path || "", style: { stroke: tone } }));
  const none = (value) => value === null || value === undefined;
  const two = (n) => String(n).padStart(2, "0");

  cells.AgentTab = ({ data }) => h("a", {
    className: "agent-tab status", role: "tab", "aria-selected": data.chosen, "aria-label": data.text, "data-status": data.status,
    href: `?agent=${encodeURIComponent(data.agent_id)}`, "data-patch": data.patch, title: data.title, tabIndex: data.chosen ? 0 : -1,
  }, h("span", { className: "tab-name" }, data.text), spark(data.spark, data.tone, 44, 16));
  cells.Status = ({ data, value }) => value && h("span", { className: "status", "data-status": data.status, title: data.reason }, value);
  cells.SortHead = ({ displayName, patch, by }) => h("button", { type: "button", className: "sort", "data-patch": patch, "data-by": by }, displayName);
  cells.Link = ({ data, value, colDef }) => (data?.links?.[colDef.field] ? h("span", null, h("a", { href: data.links[colDef.field] }, value), data.after?.[colDef.field]) : none(value) ? "" : String(value));
  cells.Sparkline = ({ data, value }) => h("span", { className: "return" }, spark(data.spark, data.tone, 58, 18), data.text);

  functions.stepstreamPlain = (value) => (none(value) ? "–" : String(value));
  functions.stepstreamYesNo = (value) => (none(value) ? "–" : value ? "yes" : "no");
  functions.stepstreamClock = (ms) => {
    if (none(ms)) return "–";
    const t = new Date(ms);
    return `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}.${String(t.getMilliseconds()).padStart(3, "0")}`;
  };
  functions.stepstreamNumber = (value) => {
    if (none(value)) return "–";
    if (typeof value !== "number" || !Number.isFinite(value) || (Number.isInteger(value) && Math.abs(value) < 1e6)) return String(value);
    const size = Math.abs(value);
    return size >= 1e6 || size < 1e-3 ? value.toExponential(2).replace(/\.?0+e/, "e") : String(Number(value.toPrecision(4)));
  };
  functions.stepstreamLine = (text) => {
    if (none(text)) return "–";
    let words = String(text);
    try { if (words[0] === '"') words = JSON.parse(words); } catch { /* cut */ }
    return words.replace(/\s+/g, " ").slice(0, 300);
  };

  // A click opens a long text in full, or changes the address as the row says; arrow keys do so once one was opened.
  let byArrow = false;
  addEventListener("keydown", ({ key }) => (byArrow = key.startsWith("Arrow")), true);
  addEventListener("pointerdown", () => (byArrow = false), true);
  functions.stepstreamOpen = ({ data, colDef, value }) => {
    if (colDef.cellClass === "long" && value) window.dash_clientside.set_props("long-text", { "data-asked": { row: data, field: colDef.field, at: Date.now() } });
    else if (data?.patch) window.stepstream.patch(data.patch);
  };
  functions.stepstreamReach = ({ api, rowIndex }) => {
    const changes = byArrow && api.getDisplayedRowAtIndex(rowIndex)?.data?.patch, query = new URLSearchParams(location.search);
    if (changes && query.has([...new URLSearchParams(changes).keys()][0])) window.stepstream.patch(changes, true);
  };
})();
