// One step with everything that SQL has of it.

import { byId, setText } from "../dom.js";
import { readable } from "../format.js";
import { here } from "../router.js";

/** A long value in full: from the row, or where that was cut, from SQL. */
export async function showText(title, row, key) {
  const dialog = byId("text-dialog"), body = byId("text-body");
  setText(byId("text-title"), title);
  body.textContent = readable(row[key]);
  dialog.showModal();
  const whole = row.cut && (await stepOf(row));
  if (whole) body.textContent = readable(whole[key]);
}

/** A step out of SQL, with everything in full; null where SQL does not have it yet. */
export async function stepOf({ stream_id: stream, seq }) {
  const answer = await fetch(`/step?${new URLSearchParams({ run: here().run, stream, seq })}`);
  return answer.ok ? answer.json() : null;
}
