// Seen, stored, shown, dropped, lag: always in this order.

import { byId, setAttr, setText } from "../dom.js";
import { compact, exact, short } from "../format.js";

const SOON_MS = 5000;

/** How much a number grows in a minute, by the last one; 0 as long as too little of it was seen. */
export class Minute {
  constructor() {
    this.marks = [];
  }

  grown(value) {
    const now = Date.now(), { marks } = this;
    if (!marks.length || now - marks[marks.length - 1][0] > 1000) marks.push([now, value]);
    while (marks.length > 1 && now - marks[0][0] > 60_000) marks.shift();
    const [since, before] = marks[0];
    return now - since < SOON_MS ? 0 : ((value - before) / (now - since)) * 60_000;
  }
}

export function showCounters({ seen, stored, waiting }, page, running, lag, minute) {
  const grown = seen === undefined ? 0 : minute.grown(seen), left = page.thinned + page.missed;
  count("seen", seen, running && grown ? `+${compact(grown)}/min` : "");
  count("stored", stored);
  count("shown", page.shown);
  count("dropped", left);
  setAttr(byId("count-dropped").parentElement, "class", left ? "warn" : "");
  setText(byId("count-lag").firstChild, running ? short(lag) : "–");
  setText(byId("count-lag").lastChild, running && waiting ? `${compact(waiting)} waiting` : "");
  setText(byId("foot"), footer(page));
}

function count(name, value, note = "") {
  const el = byId(`count-${name}`);
  setText(el.firstChild, compact(value));
  setText(el.lastChild, note);
  el.title = exact(value);
  setAttr(el, "data-value", value ?? "");
}

function footer({ thinned, missed }) {
  const parts = [];
  if (thinned) parts.push(`${exact(thinned)} steps left out of this page for the eye`);
  if (missed) parts.push(`${exact(missed)} came faster than it could follow`);
  return parts.length ? `${parts.join(" · ")}. SQL has them all.` : "No step was left out since this page was opened.";
}
