// Points that only grow at the end. Over a limit, the older half is thinned, so memory stays flat however
// long a page is left open.

const LIMIT = 8000;

export class Series {
  constructor() {
    this.clear();
  }

  clear() {
    this.xs = [];
    this.ys = [];
  }

  get last() {
    return this.ys.length ? this.ys[this.ys.length - 1] : null;
  }

  push(x, y) {
    this.xs.push(x);
    this.ys.push(y);
    if (this.xs.length > LIMIT) this.#thin();
  }

  /** As `push`, but an x that does not grow (a worker that began again) goes one to the right. */
  append(x, y) {
    const end = this.xs[this.xs.length - 1];
    this.push(end === undefined || (x !== null && x > end) ? (x ?? 0) : end + 1, y);
  }

  fill({ x, y }) {
    this.clear();
    x.forEach((at, i) => this.push(at, y[i]));
  }

  // Of four neighbours in the older half, the lowest and the highest stay.
  #thin() {
    const keep = [], half = this.xs.length >> 1, { ys } = this;
    for (let i = 0; i < half; i += 4) {
      let low = i, high = i;
      for (let j = i + 1; j < Math.min(i + 4, half); j++) {
        if (ys[j] < ys[low]) low = j;
        if (ys[j] > ys[high]) high = j;
      }
      keep.push(...new Set([Math.min(low, high), Math.max(low, high)]));
    }
    for (let i = half; i < this.xs.length; i++) keep.push(i);
    this.xs = keep.map((i) => this.xs[i]);
    this.ys = keep.map((i) => ys[i]);
  }
}

/** The mean of the last `window` values. */
export class Rolling {
  constructor(window, values = []) {
    this.window = window;
    this.values = values.slice(-window);
    this.sum = this.values.reduce((a, b) => a + b, 0);
  }

  push(value) {
    if (value === null || !Number.isFinite(value)) return this.mean();
    this.values.push(value);
    this.sum += value;
    if (this.values.length > this.window) this.sum -= this.values.shift();
    return this.mean();
  }

  mean() {
    return this.values.length ? this.sum / this.values.length : null;
  }
}
