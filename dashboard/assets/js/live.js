// The push. One socket; one delta in flight: the server sends the next one only after we said that the last
// is painted. A slow page gets fewer and larger deltas, a hidden one (no frames, so no credit) none.
//
// We send   {"n": 3, "view": {...}, "since": cursor or null}   look at this from now on
//           {"ack": 3}                                         painted: the next, please
// We get    {"n": 3, "since": cursor, "full": bool, ...}       what changed; an empty one is the heartbeat

import { Pace } from "./pace.js";

const SILENCE_MS = 15_000;

export class Live {
  constructor({ onDelta, onLink }) {
    this.onDelta = onDelta;
    this.onLink = onLink;
    this.n = 0;
    this.view = null;
    this.since = null;
    this.wait = 250;
    this.pace = new Pace();
    this.paint = 0;
    this.heard = Date.now();
    setInterval(() => this.#watch(), 1000);
    document.addEventListener("visibilitychange", () => (this.heard = Date.now()));
    this.#open();
  }

  /** Look at something else. The socket stays. */
  subscribe(view) {
    this.n += 1;
    this.view = view;
    this.since = null;
    this.#hello();
  }

  #open() {
    const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/live");
    this.socket = socket;
    socket.onopen = () => {
      this.heard = Date.now();
      this.#hello();
    };
    socket.onmessage = ({ data }) => this.#receive(socket, JSON.parse(data));
    socket.onclose = () => this.#closed(socket);
  }

  #hello() {
    if (this.view && this.socket.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify({ n: this.n, view: this.view, since: this.since }));
    }
  }

  #receive(socket, delta) {
    this.heard = Date.now();
    this.wait = 250; // it works: an open socket alone would not say so
    if (delta.n !== this.n) return; // of the view before: the server has our new wish already
    this.onLink("live", this.heard);
    const began = performance.now();
    delta.paint_ms = this.paint; // as long as the last one took
    try {
      this.onDelta(delta);
      this.since = delta.since;
    } catch (error) {
      console.error(error);
    }
    this.pace.applied(began, performance.now());
    requestAnimationFrame((frame) => setTimeout(() => {
      const now = performance.now();
      this.paint = now - began;
      const left = this.pace.painted(frame, now);
      if (left > 0) setTimeout(() => this.#acknowledge(socket, delta.n), left);
      else this.#acknowledge(socket, delta.n);
    }, 0));
  }

  #acknowledge(socket, n) {
    if (socket.readyState !== WebSocket.OPEN || n !== this.n) return;
    this.pace.ask(performance.now());
    socket.send(JSON.stringify({ ack: n }));
  }

  #closed(socket) {
    if (socket !== this.socket) return;
    this.onLink("stale", this.heard);
    setTimeout(() => this.#open(), this.wait * (0.5 + Math.random()));
    this.wait = Math.min(2 * this.wait, 5000);
  }

  // A cable that was pulled says nothing: silence longer than three heartbeats is a lost connection.
  #watch() {
    const open = this.socket.readyState === WebSocket.OPEN;
    if (open && !document.hidden && this.view && Date.now() - this.heard > SILENCE_MS) {
      const dead = this.socket;
      this.#closed(dead);
      this.socket = { readyState: WebSocket.CLOSED };
      dead.close();
    }
  }
}
