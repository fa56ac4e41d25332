// When to ask for the next delta: so late that it comes just before the frame that shows it, for what it holds
// is then as new as can be; and where taking and painting it is slow, because many pages or programs share the
// machine, only after a rest that grows with that: a crowd that asks at once only makes itself wait.

import { setting } from "./settings.js";

const FRAME_MS = 1000 / 60;
const EASY_MS = 12; // of the page's own time for a delta: more is a busy machine
const REST = 12; // times what is over that
const LONGEST_REST_MS = 300;
const RECENT = 4;
const LEARN_MS = 1;
const OFTEN = 0.9;

export class Pace {
  constructor() {
    this.ahead = Infinity; // until it is known how long an answer takes, ask at once
    this.recent = Array(RECENT).fill(0); // one slow paint is none: the first of a page always is
    this.asked = null;
  }

  /** The next delta was asked for. */
  ask(now) {
    this.asked = now;
  }

  /** It came at `began`, and stands in the page now: nine of ten take no longer than `ahead`. */
  applied(began, now) {
    this.took = now - began;
    if (this.asked === null) return;
    const since = Math.min(now - this.asked, FRAME_MS);
    this.ahead = Math.min(this.ahead, FRAME_MS);
    this.ahead += since > this.ahead ? OFTEN * LEARN_MS : (OFTEN - 1) * LEARN_MS;
    this.asked = null;
  }

  /** It is painted, in the frame that began at `frame`. Returns how long to wait with asking, in ms. */
  painted(frame, now) {
    this.recent = [this.took + now - frame, ...this.recent].slice(0, RECENT);
    const slow = Math.min(...this.recent) - EASY_MS;
    return Math.max(frame + this.interval - this.ahead - now, Math.min(REST * slow, LONGEST_REST_MS));
  }

  get interval() {
    return 1000 / setting("updates");
  }
}
