// Every row of an agent out of SQL: an AG Grid that a Dash callback makes, and another one fills.

import { copy } from "../dom.js";
import { clock, number, oneLine, yesNo } from "../format.js";

// Dash AG Grid finds these by name; a cell is text, so a worker's words stay words.
window.dashAgGridFunctions = Object.assign(window.dashAgGridFunctions || {}, {
  stepstreamPlain: (value) => (value === null || value === undefined ? "–" : String(value)),
  stepstreamClock: clock,
  stepstreamNumber: number,
  stepstreamYesNo: yesNo,
  stepstreamLine: (value) => oneLine(value).slice(0, 300),
  stepstreamOpen: (params) => params.data && open?.(params.data, params.colDef.field),
  stepstreamFocus: ({ api, rowIndex }) => byArrow && reach?.(api.getDisplayedRowAtIndex(rowIndex)?.data),
});

let open = null, reach = null, byArrow = false;

/** `open(row, field)`: a cell was clicked. `reach(row)`: arrow keys came to a row. */
export const onRow = (listeners) => ({ open, reach } = listeners);

addEventListener("keydown", ({ key }) => (byArrow = key.startsWith("Arrow")), true);
addEventListener("pointerdown", () => (byArrow = false), true);

const KINDS = ["steps", "episodes"];
const slot = (kind) => document.getElementById(`history-${kind}`);

export class History {
  constructor() {
    this.shown = {};
    this.kind = null;
  }

  /** `wanted`: {run, agent, kind, episode}. Dash may not have drawn its part yet: the newest wish waits for it. */
  show(wanted) {
    this.kind = wanted.kind;
    if (!slot(wanted.kind) || !window.dash_clientside?.set_props) {
      clearTimeout(this.later);
      this.later = setTimeout(() => this.kind === wanted.kind && this.show(wanted), 20);
      return;
    }
    for (const kind of KINDS) slot(kind).hidden = kind !== wanted.kind;
    const text = JSON.stringify(wanted), before = this.shown[wanted.kind];
    if (text === before) return;
    this.shown[wanted.kind] = text;
    window.dash_clientside.set_props(`view-${wanted.kind}`, { data: wanted });
    if (before === undefined) window.dash_clientside.set_props(`open-${wanted.kind}`, { data: true });
    else this.#again();
  }

  hide() {
    this.kind = null;
  }

  /** Rows that SQL has got since, without moving. */
  refresh() {
    this.api?.refreshInfiniteCache();
  }

  #again() {
    this.api?.ensureIndexVisible(0, "top");
    this.api?.purgeInfiniteCache();
  }

  get api() {
    try {
      return this.kind && window.dash_ag_grid?.getApi(`grid-${this.kind}`);
    } catch {
      return null; // not made yet
    }
  }

  copy() {
    const { api } = this, rows = [];
    api?.forEachNode((node) => node.data && rows.push(node.data));
    const fields = api?.getColumnDefs().map(({ field, headerName }) => [field, headerName]) || [];
    const line = (cells) => cells.map((v) => String(v ?? "").replace(/[\t\r\n]+/g, " ")).join("\t");
    const text = [line(fields.map(([, name]) => name)), ...rows.map((row) => line(fields.map(([field]) => row[field])))].join("\n");
    copy(text, `${rows.length} rows copied`);
  }
}
