// A table of any length: only the rows in sight exist, and are filled anew, so a thousand updates a second
// cost the same as one.

import { h, watch } from "./dom.js";

const MARGIN = 6;

/**
 * `columns`: [{name, cls, width, fill(td, row), sort(row)?}]. `rowHeight` in pixels. Where `hold` is on,
 * the rows stand still while the pointer is over them.
 */
export class Rows {
  constructor(scroller, { columns, rowHeight, caption, onOpen = null, className = "", hold = false, onSort = null }) {
    Object.assign(this, { scroller, columns, rowHeight, onOpen, hold, onSort });
    this.rows = [];
    this.waiting = null;
    this.pool = [];
    this.top = h("tr", { className: "spacer" }, h("td", { colSpan: columns.length }));
    this.bottom = this.top.cloneNode(true);
    this.body = h("tbody", {}, this.top, this.bottom);
    this.heads = columns.map((column) => this.#head(column));
    const cols = columns.map(({ width }) => h("col", width ? { style: `width:${width}` } : {}));
    this.table = h("table", { className: `grid ${className}` },
      h("caption", { className: "sr-only" }, caption), h("colgroup", {}, ...cols),
      h("thead", {}, h("tr", {}, ...this.heads)), this.body);
    scroller.replaceChildren(this.table);
    this.at = 0;
    this.view = 600;
    this.seen = true;
    this.onScroll = () => {
      this.at = scroller.scrollTop;
      this.draw();
    };
    scroller.addEventListener("scroll", this.onScroll, { passive: true });
    this.unwatch = watch(scroller, (_, height) => {
      this.view = height || 600;
      this.draw();
    }, (seen) => {
      this.seen = seen;
      this.draw();
    });
    this.#holdWhilePointed();
  }

  destroy() {
    this.unwatch();
    this.scroller.removeEventListener("scroll", this.onScroll);
    this.scroller.replaceChildren();
  }

  /** Show these rows. `added`: how many of them came on top, so that what is being read stays in place. */
  set(rows, added = 0) {
    if (this.pointed && this.hold) {
      this.waiting = rows;
      this.onHeld?.(true);
      return;
    }
    this.rows = rows;
    if (added && this.at > 4) this.scroller.scrollTop = this.at += added * this.rowHeight;
    this.draw();
  }

  draw() {
    if (!this.seen) return; // drawn when it comes into sight
    const { rowHeight: height, rows, view } = this;
    const first = Math.max(Math.floor(this.at / height) - MARGIN, 0);
    const count = Math.max(Math.min(rows.length - first, Math.ceil(view / height) + 2 * MARGIN), 0);
    while (this.pool.length < count) this.#grow();
    this.pool.forEach((tr, i) => {
      const row = i < count ? rows[first + i] : null;
      tr.hidden = row === null;
      tr.row = row;
      if (row) this.columns.forEach((column, k) => column.fill(tr.cells[k], row));
      if (row) this.onFill?.(tr, row);
    });
    this.top.firstChild.style.height = `${first * height}px`;
    this.bottom.firstChild.style.height = `${Math.max(rows.length - first - count, 0) * height}px`;
  }

  #grow() {
    const cells = this.columns.map(({ cls }) => h("td", { className: cls || "" }));
    const tr = h("tr", {}, ...cells);
    this.pool.push(tr);
    this.bottom.before(tr);
  }

  #head({ name, cls, title, sort }) {
    const label = sort ? h("button", { type: "button" }, name) : name;
    const th = h("th", { className: (cls || "").replace(/long|mono/g, ""), scope: "col", title }, label);
    if (sort) label.addEventListener("click", () => this.onSort?.(name));
    return th;
  }

  /** Show which column orders the rows: `descending` or not. */
  showSort(name, descending) {
    this.columns.forEach((column, k) => {
      if (!column.sort) return;
      const on = column.name === name;
      this.heads[k].setAttribute("aria-sort", on ? (descending ? "descending" : "ascending") : "none");
    });
  }

  #holdWhilePointed() {
    this.body.addEventListener("pointerenter", (event) => (this.pointed = event.pointerType === "mouse"));
    this.body.addEventListener("pointerleave", () => {
      this.pointed = false;
      if (this.waiting) this.set(this.waiting);
      this.waiting = null;
      this.onHeld?.(false);
    });
    this.body.addEventListener("click", (event) => {
      const tr = event.target.closest("tr");
      if (tr?.row && this.onOpen) this.onOpen(tr.row, event);
    });
  }
}
