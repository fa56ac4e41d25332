// Cells that are more than text. Everything else about the tables is Python's.
(() => {
  const cells = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
  const functions = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});
  const h = (...all) => window.React.createElement(...all);
  const run = (id) => `/runs/${encodeURIComponent(id)}`;

  cells.RunStatus = ({ value }) => h("span", { className: "status", "data-status": value }, value);
  cells.RunLink = ({ data }) => h("a", { href: run(data.run_id) }, data.name);

  functions.stepstreamTheme = (theme) => theme.withParams({
    backgroundColor: "var(--card)", foregroundColor: "var(--text)", accentColor: "var(--accent)", borderColor: "var(--grid)",
    headerBackgroundColor: "var(--card)", headerTextColor: "var(--muted)", headerFontSize: 12, headerFontWeight: 400,
    rowHoverColor: "var(--raised)", fontFamily: "inherit", fontSize: 13, cellHorizontalPadding: 12, wrapperBorder: false,
    wrapperBorderRadius: 0, oddRowBackgroundColor: "transparent", headerColumnResizeHandleColor: "transparent", browserColorScheme: "inherit",
  });
})();
