// Line charts and sparklines as SVG paths: about 7 ms for thousands of points, where a chart library takes
// 30 ms and 5 MB. Every pixel column keeps its lowest and highest point, so thinning hides no spike.

import { h, svg, watch } from "./dom.js";
import { number } from "./format.js";

const LEFT = 48, RIGHT = 12, TOP = 8, BOTTOM = 20;

/** Round numbers for an axis, at most `count` + 1, not nearer to each other than `least`. */
export function ticks(low, high, count, least = 0) {
  const span = high - low || 1;
  const raw = span / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => span / s <= count) || power * 10;
  const out = [];
  if (step < least) return ticks(low, high, Math.max(Math.floor(span / least), 1));
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) out.push(Number((i * step).toPrecision(12)));
  return out;
}

/** A path through the points; per pixel column at most its first, lowest, highest and last. */
export function linePath(xs, ys, from, to, toX, toY) {
  let path = "", column = null, low = 0, high = 0, first = 0, last = 0, open = false;
  const put = (x, y) => {
    path += `${open ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`;
    open = true;
  };
  const flush = () => {
    if (column === null) return;
    put(column, first);
    if (low < first || low < last) put(column, low);
    if (high > first || high > last) put(column, high);
    if (last !== first) put(column, last);
    if (from + 1 === to) path += "h0"; // a point alone is a dot
  };
  for (let i = from; i < to; i++) {
    const value = ys[i];
    if (value === null || !Number.isFinite(value)) {
      flush();
      column = null;
      open = false;
      continue;
    }
    const x = Math.round(toX(xs[i]) * 2) / 2, y = toY(value);
    if (x !== column) {
      flush();
      column = x;
      first = low = high = last = y;
    } else {
      low = Math.min(low, y);
      high = Math.max(high, y);
      last = y;
    }
  }
  flush();
  return path;
}

function bounds(lists) {
  let low = Infinity, high = -Infinity;
  for (const [values, from, to] of lists) {
    for (let i = from; i < to; i++) {
      const v = values[i];
      if (v === null || !Number.isFinite(v)) continue;
      if (v < low) low = v;
      if (v > high) high = v;
    }
  }
  if (low > high) return null;
  if (low === high) return [low - (Math.abs(low) * 0.1 || 1), high + (Math.abs(high) * 0.1 || 1)];
  const pad = (high - low) * 0.06;
  return [low - pad, high + pad];
}

/** First index whose x is at least `value`. */
function lowerBound(xs, value) {
  let a = 0, b = xs.length;
  while (a < b) {
    const m = (a + b) >> 1;
    if (xs[m] < value) a = m + 1;
    else b = m;
  }
  return a;
}

/**
 * A chart of lines over one x axis.
 *
 * `lines`: [{name, colour, raw}]; `set([series, …])` gives each its points `{xs, ys}`, x ascending. Drag zooms,
 * a double click shows all again, a click calls `onPick(x)` with the nearest x of the first line.
 */
export class Chart {
  constructor(box, { lines, label, xName = "", onPick = null, empty = "No values yet" }) {
    Object.assign(this, { box, lines, label, xName, onPick });
    this.data = lines.map(() => ({ xs: [], ys: [] }));
    this.zoom = null;
    this.mark = null;
    this.hover = null;
    this.rules = svg("g");
    this.paths = lines.map(({ colour, raw }) =>
      svg("path", { class: raw ? "line raw" : "line", style: `stroke:${colour}` }));
    this.marker = svg("line", { class: "mark", visibility: "hidden" });
    this.cursor = svg("line", { class: "cursor", visibility: "hidden" });
    this.dots = lines.map(({ colour }) => svg("circle", { class: "dot", r: 3.5, style: `fill:${colour}`, visibility: "hidden" }));
    this.brush = svg("rect", { class: "zoom", visibility: "hidden" });
    this.svg = svg("svg", { role: "img" }, this.rules, ...this.paths, this.marker, this.cursor, ...this.dots, this.brush);
    this.tip = h("div", { className: "tip", hidden: true });
    this.note = h("div", { className: "chart-empty" }, empty);
    box.replaceChildren(this.svg, this.tip, this.note);
    this.seen = true;
    this.unwatch = watch(this.svg, (width, height) => {
      Object.assign(this, { width, height });
      this.draw();
    }, (seen) => {
      this.seen = seen;
      this.draw();
    });
    this.#listen();
  }

  destroy() {
    this.unwatch();
    this.box.replaceChildren();
  }

  set(data) {
    this.data = data;
    this.draw();
  }

  setMark(x) {
    this.mark = x;
    this.draw();
  }

  draw() {
    const { width, height } = this;
    if (!width || !height || !this.seen) return; // drawn when it comes into sight
    const ranges = this.data.map(({ xs }) => this.#range(xs));
    const y = bounds(this.data.map(({ ys }, k) => [ys, ...ranges[k]]));
    this.note.hidden = y !== null;
    if (y === null) {
      this.scale = null;
      this.rules.replaceChildren();
      for (const path of this.paths) path.setAttribute("d", "");
      return;
    }
    const [x0, x1] = this.zoom || this.#extent();
    const span = x1 - x0 || 1;
    const toX = (v) => LEFT + ((v - x0) / span) * (width - LEFT - RIGHT);
    const toY = (v) => TOP + (1 - (v - y[0]) / (y[1] - y[0])) * (height - TOP - BOTTOM);
    this.scale = { toX, toY, x0, span, width, height };
    this.#axes(x0, x1, y, width, height);
    this.data.forEach(({ xs, ys }, k) => {
      this.paths[k].setAttribute("d", linePath(xs, ys, ...ranges[k], toX, toY));
      this.paths[k].classList.toggle("alone", xs.length === 1);
      this.paths[k].classList.toggle("dense", ranges[k][1] - ranges[k][0] > width / 2);
    });
    this.#place(this.marker, this.mark, height);
    this.#showHover();
    this.svg.setAttribute("aria-label", this.#summary());
  }

  #range(xs) {
    if (!this.zoom) return [0, xs.length];
    return [Math.max(lowerBound(xs, this.zoom[0]) - 1, 0), Math.min(lowerBound(xs, this.zoom[1]) + 1, xs.length)];
  }

  #extent() {
    const filled = this.data.filter(({ xs }) => xs.length);
    return [Math.min(...filled.map(({ xs }) => xs[0])), Math.max(...filled.map(({ xs }) => xs[xs.length - 1]))];
  }

  #axes(x0, x1, [low, high], width, height) {
    const out = [];
    for (const value of ticks(low, high, height > 160 ? 5 : 3)) {
      const y = Math.round(this.scale.toY(value)) + 0.5;
      out.push(svg("line", { class: "rule", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }));
      out.push(svg("text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, number(value)));
    }
    for (const value of ticks(x0, x1, Math.max(Math.floor(width / 90), 2), 1)) {
      const x = this.scale.toX(value);
      if (x < LEFT - 1 || x > width - RIGHT + 1) continue;
      const anchor = x > width - RIGHT - 20 ? "end" : x < LEFT + 12 ? "start" : "middle";
      out.push(svg("text", { x, y: height - 4, "text-anchor": anchor }, number(value)));
    }
    this.rules.replaceChildren(...out);
  }

  #place(line, x, height) {
    const inside = x !== null && this.scale && x >= this.scale.x0 && x <= this.scale.x0 + this.scale.span;
    line.setAttribute("visibility", inside ? "visible" : "hidden");
    if (!inside) return;
    const at = this.scale.toX(x);
    for (const [name, value] of Object.entries({ x1: at, x2: at, y1: TOP, y2: height - BOTTOM })) line.setAttribute(name, value);
  }

  #summary() {
    const parts = this.lines.map(({ name }, k) => {
      const { ys } = this.data[k];
      return `${name} ${number(ys[ys.length - 1])}`;
    });
    return `${this.label}, ${this.data[0].xs.length} points. Newest: ${parts.join(", ")}`;
  }

  /** Index of the point of a line nearest to an x. */
  #near({ xs }, x) {
    const i = lowerBound(xs, x);
    if (i <= 0) return 0;
    if (i >= xs.length) return xs.length - 1;
    return x - xs[i - 1] < xs[i] - x ? i - 1 : i;
  }

  #xAt(px) {
    const { x0, span, width } = this.scale;
    return x0 + ((px - LEFT) / (width - LEFT - RIGHT)) * span;
  }

  /** The x of the first line that is nearest to a pixel. */
  #nearest(px) {
    const [lead] = this.data;
    return lead.xs[this.#near(lead, this.#xAt(px))];
  }

  #showHover() {
    const shown = this.hover !== null && this.scale && this.data[0].xs.length > 0;
    this.tip.hidden = !shown;
    const x = shown ? this.#nearest(this.hover) : null;
    this.#place(this.cursor, x, this.scale?.height);
    const values = this.data.map((line) => (shown ? (line.ys[this.#near(line, x)] ?? null) : null));
    this.dots.forEach((dot, k) => {
      const on = values[k] !== null && Number.isFinite(values[k]);
      dot.setAttribute("visibility", on ? "visible" : "hidden");
      if (!on) return;
      dot.setAttribute("cx", this.scale.toX(x));
      dot.setAttribute("cy", this.scale.toY(values[k]));
    });
    if (shown) this.#fillTip(x, values);
  }

  #fillTip(x, values) {
    const rows = [h("div", { className: "muted" }, `${this.xName} ${number(x)}`)];
    this.lines.forEach(({ name, colour }, k) => {
      rows.push(h("div", {}, h("i", { style: `background:${colour}` }), `${name} ${number(values[k])}`));
    });
    this.tip.replaceChildren(...rows);
    const at = this.scale.toX(x);
    const right = at + this.tip.offsetWidth + 24 > this.scale.width;
    this.tip.style.left = `${right ? at - this.tip.offsetWidth - 8 : at + 16}px`;
  }

  #listen() {
    const px = (event) => event.clientX - this.svg.getBoundingClientRect().left;
    let start = null;
    this.svg.addEventListener("pointermove", (event) => {
      this.hover = px(event);
      if (start !== null && Math.abs(this.hover - start) > 4) this.#drawBrush(start, this.hover);
      this.#showHover();
    });
    this.svg.addEventListener("pointerleave", () => {
      this.hover = null;
      this.#showHover();
    });
    this.svg.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      start = px(event);
      this.svg.setPointerCapture(event.pointerId);
    });
    this.svg.addEventListener("pointerup", (event) => {
      const end = px(event), began = start;
      start = null;
      this.brush.setAttribute("visibility", "hidden");
      if (began === null || !this.scale) return;
      if (Math.abs(end - began) > 4) this.#zoomTo(Math.min(began, end), Math.max(began, end));
      else if (this.onPick && this.data[0].xs.length) this.onPick(this.#nearest(end));
    });
    this.svg.addEventListener("dblclick", () => {
      this.zoom = null;
      this.draw();
    });
    if (this.onPick) this.svg.style.cursor = "pointer";
  }

  #drawBrush(a, b) {
    const { height } = this.scale || { height: 0 };
    const box = { x: Math.min(a, b), y: TOP, width: Math.abs(a - b), height: Math.max(height - TOP - BOTTOM, 0), visibility: "visible" };
    for (const [name, value] of Object.entries(box)) this.brush.setAttribute(name, value);
  }

  #zoomTo(a, b) {
    this.zoom = [this.#xAt(a), this.#xAt(b)];
    this.draw();
  }
}

/** A sparkline: an SVG that `update(values)` redraws. */
export function spark() {
  const path = svg("path");
  const el = svg("svg", { class: "spark", viewBox: "0 0 72 20", preserveAspectRatio: "none", "aria-hidden": "true" }, path);
  el.update = (values) => {
    const finite = (values || []).filter((v) => v !== null && Number.isFinite(v));
    el.classList.toggle("none", finite.length < 2);
    if (finite.length < 2) return;
    const low = Math.min(...finite), span = Math.max(...finite) - low || 1;
    const d = finite.map((v, i) => {
      const x = (i / (finite.length - 1)) * 70 + 1, y = 18 - ((v - low) / span) * 16;
      return `${i ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`;
    });
    path.setAttribute("d", d.join(""));
  };
  return el;
}
