// Every row of an agent out of SQL: an AG Grid that a Dash callback makes, and another one fills.

import { copy } from "../dom.js";
import { clock, number, oneLine, yesNo } from "../format.js";

const GRID = "history-grid";

// Dash AG Grid finds these by name; a cell is text, so a worker's words stay words.
window.dashAgGridFunctions = Object.assign(window.dashAgGridFunctions || {}, {
  stepstreamPlain: (value) => (value === null || value === undefined ? "–" : String(value)),
  stepstreamClock: clock,
  stepstreamNumber: number,
  stepstreamYesNo: yesNo,
  stepstreamLine: (value) => oneLine(value).slice(0, 300),
  stepstreamOpen: (params) => params.data && open?.(params.data, params.colDef.field),
});

let open = null;

/** Whoever shows a long value, or the steps of an episode. */
export const onOpen = (listener) => (open = listener);

export class History {
  constructor() {
    this.shown = null;
  }

  show(wanted) {
    const text = JSON.stringify(wanted);
    if (text === this.shown) return;
    this.shown = text;
    setView(wanted);
  }

  hide() {
    if (this.shown === null) return;
    this.shown = null;
    setView(null);
  }

  get api() {
    return window.dash_ag_grid?.getApi(GRID);
  }

  copy() {
    const rows = [];
    this.api?.forEachNode((node) => node.data && rows.push(node.data));
    const fields = this.api?.getColumnDefs().map(({ field, headerName }) => [field, headerName]) || [];
    const line = (cells) => cells.map((v) => String(v ?? "").replace(/[\t\r\n]+/g, " ")).join("\t");
    const text = [line(fields.map(([, name]) => name)), ...rows.map((row) => line(fields.map(([field]) => row[field])))].join("\n");
    copy(text, `${rows.length} rows copied`);
  }
}


let wish = null;

/** Dash may not have drawn its part yet: the newest wish waits for it. */
function setView(wanted) {
  wish = { data: wanted };
  if (document.getElementById("history-slot") && window.dash_clientside?.set_props) {
    window.dash_clientside.set_props("history-view", wish);
  } else {
    setTimeout(() => wish.data === wanted && setView(wanted), 20);
  }
}
