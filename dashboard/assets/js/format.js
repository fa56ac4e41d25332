// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const days = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const SIGNS = ["", "k", "M", "G", "T"];

/** 12,345 in full; from 100,000 on 123k, 1.2M. The exact value belongs into the title. */
export function compact(value) {
  if (value === null || value === undefined) return "–";
  let n = Number(value), sign = 0;
  if (Math.abs(n) < 100_000) return whole.format(n);
  while (Math.abs(n) >= 1000 && sign < SIGNS.length - 1) {
    n /= 1000;
    sign += 1;
  }
  return (Math.abs(n) >= 100 ? n.toFixed(0) : n.toFixed(1)) + SIGNS[sign];
}

export const exact = (value) => (value === null || value === undefined ? "" : whole.format(value));

/** A measured number: four significant digits, no needless zeros. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(4)));
}

/** Steps a second. */
export function rate(value) {
  if (!value) return "–";
  return value < 10 ? value.toFixed(1) : compact(Math.round(value));
}

const two = (n) => String(n).padStart(2, "0");

/** 4 s, 3 m 12 s, 2 h 05 m, 3 d 4 h. */
export function duration(ms) {
  if (ms === null || ms === undefined || !(ms >= 0)) return "–";
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} m ${two(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} m`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

/** A short time with its unit: 23 ms, 1.4 s, 12 s. */
export function short(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${Math.round(Math.max(ms, 0))} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return duration(ms);
}

/** 14:03:07.123 of that day. */
export function clock(ms) {
  if (ms === null || ms === undefined) return "–";
  const t = new Date(ms);
  const milli = String(t.getMilliseconds()).padStart(3, "0");
  return `${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}.${milli}`;
}

/** 14:03 today, else 24 Nov, with the year where it is another one. */
export function moment(ms) {
  if (ms === null || ms === undefined) return "–";
  const t = new Date(ms), now = new Date();
  const year = t.getFullYear() === now.getFullYear() ? "" : ` ${t.getFullYear()}`;
  const today = t.toDateString() === now.toDateString();
  return today ? `${two(t.getHours())}:${two(t.getMinutes())}` : days.format(t) + year;
}

export const iso = (ms) => (ms ? new Date(ms).toISOString() : "");

/** A value that came as JSON text, on one line. */
export function oneLine(text) {
  if (text === null || text === undefined) return "–";
  return unquote(text).replace(/\s+/g, " ");
}

/** JSON text as people read it: a string without its quotes, anything else indented. */
export function readable(text) {
  if (text === null || text === undefined) return "";
  try {
    const value = JSON.parse(text);
    return typeof value === "string" ? value : JSON.stringify(value, null, 2);
  } catch {
    return text;
  }
}

function unquote(text) {
  if (text[0] !== '"') return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

export const yesNo = (value) => (value === null || value === undefined ? "–" : value ? "yes" : "no");
