// The address is the state: every view has a link, and the back button works.
//
//   /                      ?q= &status= &sort=
//   /runs/<run id>         ?agent= &panel= &table= &rows= &episode= &at= &metric= (repeated) &q=

const listeners = new Set();

/** What the address says. */
export function here() {
  const [, page, id] = location.pathname.match(/^\/(runs)\/(.+?)\/?$/) || [];
  const query = new URLSearchParams(location.search);
  const state = Object.fromEntries([...query.keys()].map((key) => [key, query.get(key)]));
  state.metric = query.getAll("metric");
  state.page = page ? "run" : "home";
  state.run = page ? decode(id) : null;
  return state;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function runLink(runId, query = {}) {
  const text = queryText(query);
  return `/runs/${encodeURIComponent(runId)}${text}`;
}

function queryText(query) {
  const out = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) {
    for (const item of [value].flat()) if (item !== null && item !== undefined && item !== "") out.append(key, item);
  }
  const text = out.toString();
  return text ? `?${text}` : "";
}

/** Change part of the query; `replace` leaves no step for the back button. */
export function patch(changes, { replace = false } = {}) {
  const { page, run, ...query } = { ...here(), ...changes };
  go(location.pathname + queryText(query), { replace });
}

export function go(url, { replace = false } = {}) {
  if (url === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", url);
  for (const listener of listeners) listener(here());
}

export function onRoute(listener) {
  listeners.add(listener);
}

addEventListener("popstate", () => {
  for (const listener of listeners) listener(here());
});

// Plain clicks on our own links stay in the page; with a modifier they open as anywhere.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || link.target || link.hasAttribute("download")) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const url = new URL(link.href);
  if (url.origin !== location.origin || link.getAttribute("href").startsWith("#")) return;
  if (!/^\/(runs\/.*)?$/.test(url.pathname)) return;
  event.preventDefault();
  go(url.pathname + url.search);
});
