// One step of the past with everything that SQL has of it, and its picture, which Kafka has: shown where the
// newest one stands, until that is wanted again. The address names it, or its episode, whose first step it is.

import { openDialog } from "../dialogs.js";
import { byId, h, setText } from "../dom.js";
import { readable } from "../format.js";
import { gridOf, showCaption } from "../frame.js";
import { here, patch } from "../router.js";

const PATIENCE_MS = 400;
const OTHERS_KEYS = "input, select, textarea, [role=dialog], [role=tablist], .ag-root";

/** A long value in full: from the row, or where that was cut, from SQL. */
export async function showText(title, row, key) {
  openDialog("text", { "text-title": { children: title }, "text-body": { children: readable(row[key]) } });
  const whole = row.cut && (await ask("step", { run: here().run, stream: row.stream_id, seq: row.seq }));
  if (whole) openDialog("text", { "text-body": { children: readable(whole[key]) } });
}

/** Look at a step of the past; one more step for the back button, unless it is the neighbour of the last. */
export const look = (step, options) => patch({ at: `${step.stream_id}/${step.seq}` }, options);

async function ask(what, query) {
  const answer = await fetch(`/${what}?${new URLSearchParams(query)}`);
  return answer.ok ? answer.json() : null;
}

export class Past {
  /** `show(frame, note)` draws a picture; `newest()` goes back to the newest. */
  constructor({ show, newest }) {
    this.draw = { show, newest };
    this.step = null;
    this.asked = 0;
    byId("now-newest").addEventListener("click", () => patch({ at: null, episode: null }));
    byId("step-before").addEventListener("click", () => this.#beside("before"));
    byId("step-after").addEventListener("click", () => this.#beside("after"));
    addEventListener("keydown", (event) => this.#key(event));
  }

  /** Whether a step of the past stands where the newest would. */
  get shown() {
    return this.step !== null;
  }

  /** What the address names. */
  change({ run, at, episode }, agent) {
    const place = at?.match(/^(.+)\/(\d+)$/s);
    const wanted = place ? ["step", { run, stream: place[1], seq: place[2] }]
      : episode && agent ? ["first-step", { run, agent, episode }] : null;
    const text = JSON.stringify(wanted);
    if (text === this.wanted) return;
    this.wanted = text;
    if (wanted) this.#look(...wanted);
    else this.leave();
  }

  leave() {
    this.asked += 1;
    this.wanted = "null";
    this.step = null;
    for (const id of ["now-newest", "step-before", "step-after"]) byId(id).hidden = true;
    setText(byId("now-title"), "Newest step");
    this.draw.newest();
  }

  async #look(what, query) {
    const asked = (this.asked += 1);
    // A neighbour that was just found is here already.
    const found = this.found && `${this.found.seq}` === query.seq && this.found.stream_id === query.stream;
    const step = found ? this.found : await ask(what, query);
    if (asked !== this.asked) return;
    if (!step) return this.leave(); // SQL does not have it, or not yet
    this.step = step;
    for (const id of ["now-newest", "step-before", "step-after"]) byId(id).hidden = false;
    setText(byId("now-title"), `Step ${step.step ?? "–"} of episode ${step.episode ?? "–"}`);
    showCaption(step);
    const grid = gridOf(step.extras);
    if (grid) return this.draw.show(grid);
    await this.#picture(step, asked);
  }

  /** One sentence says why a step has none; it is seen where the agent has pictures. */
  async #picture(step, asked) {
    const say = (text) => byId("frame").replaceChildren(h("p", {}, text));
    const slow = setTimeout(() => asked === this.asked && say("Looking for the picture of this step"), PATIENCE_MS);
    const answer = await ask("frame", { run: here().run, stream: step.stream_id, seq: step.seq });
    clearTimeout(slow);
    if (asked !== this.asked) return;
    if (!answer?.frame) return say(answer?.said || "No picture of this step can be read now.");
    const own = answer.frame.step === step.step;
    this.draw.show(answer.frame, own ? "" : `picture of step ${answer.frame.step ?? "–"}`);
  }

  #key(event) {
    const beside = { ArrowLeft: "before", ArrowRight: "after" }[event.key];
    if (!beside || !this.shown || event.metaKey || event.ctrlKey || event.altKey) return;
    if (event.target.closest?.(OTHERS_KEYS)) return;
    event.preventDefault();
    this.#beside(beside);
  }

  /** One at a time: a key that is held down plays the episode as fast as it can be read. */
  async #beside(beside) {
    if (this.busy || !this.step) return;
    this.busy = true;
    try {
      const { stream_id: stream, seq } = this.step, asked = this.asked;
      const step = await ask("step", { run: here().run, stream, seq, beside });
      if (!step || asked !== this.asked) return;
      this.found = step;
      look(step, { replace: true });
    } finally {
      this.busy = false;
    }
  }
}
