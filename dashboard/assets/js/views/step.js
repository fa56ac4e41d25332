// One step with everything that SQL has of it.

import { openDialog } from "../dialogs.js";
import { readable } from "../format.js";
import { here } from "../router.js";

/** A long value in full: from the row, or where that was cut, from SQL. */
export async function showText(title, row, key) {
  openDialog("text", { "text-title": { children: title }, "text-body": { children: readable(row[key]) } });
  const whole = row.cut && (await stepOf(row));
  if (whole) openDialog("text", { "text-body": { children: readable(whole[key]) } });
}

/** A step out of SQL, with everything in full; null where SQL does not have it yet. */
export async function stepOf({ stream_id: stream, seq }) {
  const answer = await fetch(`/step?${new URLSearchParams({ run: here().run, stream, seq })}`);
  return answer.ok ? answer.json() : null;
}
