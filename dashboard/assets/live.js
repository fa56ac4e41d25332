// The push: one socket, one delta in flight. What Python says is put on the page: texts into the leaves that name
// a key (data-live), properties into components. What is heavy comes after the paint, one piece a frame, so that
// no number waits for a chart. And the address: links and inputs that change a part of it. Nothing here knows
// what any panel is about.
(() => {
  const FRAME_MS = 1000 / 60, EASY_MS = 12, REST = 12, LONGEST_REST_MS = 300, SILENCE_MS = 15_000, TWICE_MS = 400;

  // When to ask for the next delta: so late that it comes just before the frame that shows it, as it is then as new as
  // can be; and where painting is slow, because many pages or programs share the machine, after a rest.
  class Pace {
    ahead = Infinity; // until it is known how long an answer takes, ask at once
    recent = [0, 0, 0, 0]; // one slow paint is none: the first of a page always is
    asked = null;
    constructor(updates) { this.updates = updates; }
    /** A delta came at `began`, and is set now: nine of ten take no longer than `ahead`. */
    applied(began, now) {
      this.took = now - began;
      if (this.asked === null) return;
      const answer = Math.min(now - this.asked, FRAME_MS);
      this.ahead = Math.min(this.ahead, FRAME_MS);
      this.ahead += answer > this.ahead ? 0.9 : -0.1;
      this.asked = null;
    }
    /** It is painted, in the frame that began at `frame`. */
    painted(frame, now) { this.recent = [this.took + now - frame, ...this.recent].slice(0, 4); }
    /** How long to wait with asking, in ms. */
    wait(frame, now) {
      const every = 1000 / this.updates(), next = frame + every * Math.max(Math.ceil((now - frame) / every), 1);
      const slow = Math.min(...this.recent) - EASY_MS;
      return Math.max(next - this.ahead - now, Math.min(REST * slow, LONGEST_REST_MS), 0);
    }
  }
  let socket, wait = 250, heard = Date.now(), moved = 0, released = 0, paint = 0, failed = {}, drawing = false, typed = 0, resting = 0, ask = null, page = null, untold = 0, chosen = {};
  const leaves = new Map(), queue = new Map();
  const find = (selector, root = document) => [...root.querySelectorAll(selector)];
  const painted = (then) => requestAnimationFrame((frame) => setTimeout(then, 0, frame));
  const say = (word) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(word));
  const request = (word) => { say(word); clearTimeout(resting); ask?.(); }; // what a user asks for waits for no rest, and comes first
  const settings = () => Object.fromEntries(["updates", "buffer", "theme"].map((name) => [name, window.stepstream.setting(name)]));
  const pace = new Pace(() => chosen.updates || 60);

  function open() {
    const mine = (socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/live"));
    mine.onopen = hello;
    mine.onmessage = ({ data }) => receive(mine, JSON.parse(data));
    mine.onclose = () => mine === socket && lost();
  }
  function lost() {
    state("silent", "Reconnecting");
    setTimeout(open, (wait = Math.min(2 * wait, 5000)) * (0.25 + Math.random() / 2));
  }
  const hello = () => { moved = Date.now(); request({ url: location.pathname + location.search, settings: (chosen = settings()) }); };

  function receive(from, delta) {
    if (from !== socket) return;
    [heard, wait] = [Date.now(), 250];
    if (!page?.isConnected) page = document.querySelector("[data-page]");
    if (page?.dataset.page !== delta.page) { tell(); return setTimeout(receive, 5, from, delta); } // Dash puts it there, or a newer one comes
    state("running", "Live");
    const began = performance.now();
    if (delta.n === 1) { leaves.clear(); queue.clear(); }
    if (delta.url === location.pathname + location.search) arrived();
    for (const part of delta.parts) {
      for (const key in part.texts) text(key, part.texts[key]);
      for (const id in part.props) props(id, part.props[id]);
      for (const id in part.draw) later(id, part.draw[id]);
      if (part.address) patch(part.address, true, true);
    }
    pace.applied(began, performance.now());
    painted((frame) => {
      paint = performance.now() - began;
      pace.painted(frame, performance.now());
      setTimeout(draw, 0, (drew) => { // a task later: first come keys and clicks, and whoever else waits for this paint
        resting = setTimeout((ask = () => acknowledge(from, delta.n, drew)), pace.wait(frame, performance.now()));
        more();
        if (delta.url) setTimeout(tell);
      });
    });
  }
  function acknowledge(from, n, drew) {
    if (from !== socket) return;
    say({ ack: n, paint, drew, failed });
    [ask, pace.asked, failed] = [null, performance.now(), {}];
  }
  function state(status, words) {
    const el = document.getElementById("link-state");
    document.body.classList.toggle("stale", status !== "running");
    if (el && el.dataset.status !== status) [el.dataset.status, el.textContent] = [status, words];
  }
  setInterval(() => {
    const bar = document.getElementById("stale"), seconds = Math.round((Date.now() - heard) / 1000);
    if (bar) bar.textContent = document.body.classList.contains("stale") ? `Reconnecting, last data ${seconds} s ago` : "";
    if (socket.readyState !== WebSocket.OPEN || document.hidden || Date.now() - heard < SILENCE_MS) return;
    const dead = socket; // a cable that was pulled says nothing
    lost();
    dead.onclose = null;
    dead.close();
  }, 1000);
  document.addEventListener("visibilitychange", () => (heard = Date.now()));

  function text(key, value) {
    let found = leaves.get(key);
    if (!found?.length || found.some(({ el }) => !el.isConnected)) {
      leaves.set(key, (found = find(`[data-live~="${CSS.escape(key)}"]`).flatMap(leaf.bind(null, key))));
    }
    for (const { el, name } of found) {
      if (name === "text") (el.firstChild?.nodeType === Node.TEXT_NODE ? el.firstChild : el).textContent = value;
      else if (/^(value|min|max)$/.test(name)) Object.assign(el.querySelector("input:not(:active)") || {}, { [name]: value }); // of the field in it
      else if (name === "data-some" || value === "") el.toggleAttribute(name, value !== "");
      else el.setAttribute(name, value);
      if (name === "data-chosen") for (const one of el.children) one.setAttribute("aria-pressed", one.dataset.value === value);
    }
  }
  /** What an element takes of a key: its text, or attributes, named in the order of its keys. */
  function leaf(key, el) {
    const names = (el.dataset.liveAttr || "text").split(" ");
    return el.dataset.live.split(" ").flatMap((one, i) => (one === key ? [{ el, name: names[i] }] : []));
  }

  function props(id, { api, ...values }) {
    try {
      for (const call of api || []) window.dash_ag_grid.getApi(id)?.[call]();
      if (isPatch(values.figure) && straight(id, values.figure.operations)) delete values.figure;
      else if (isPatch(values.figure)) values.figure = { ...values.figure, operations: joined(ahead.get(id) || [], values.figure.operations) };
      if (values.figure) ahead.delete(id);
      const named = id[0] === "{" ? JSON.parse(id) : id; // one of many: {"name":…,"type":…}
      if (Object.keys(values).length) window.dash_clientside.set_props(named, values);
    } catch (error) { failed[id] = String(error).slice(0, 300); }
  }
  const isPatch = (value) => value?.__dash_patch_update;
  const joined = (...all) => all.flat().reduce((kept, one) => [...kept.filter(({ location }) => one.operation !== "Assign" || `${location}` !== `${one.location}`), one], []);
  const put = (at, [key, ...path], value) => Object.assign(Array.isArray(at) ? [...at] : { ...at }, { [key]: path.length ? put(at?.[key], path, value) : value });

  // New values of a figure go straight to Plotly: through Dash every component hears of them, a third of a redraw. Where the
  // axes stay, only its lines are drawn, half of the rest. Dash has the values again with the next change that is more.
  const ahead = new Map(), AT_ONCE = { mode: "immediate", frame: { duration: 0, redraw: false }, transition: { duration: 0 } };
  function straight(id, parts) {
    const gd = document.getElementById(id)?.querySelector(".js-plotly-plot"), { xaxis, yaxis } = gd?._fullLayout || {};
    if (!xaxis || parts.some(({ operation }) => operation !== "Assign")) return false;
    const stays = ({ location, params }) => location[0] !== "data" && JSON.stringify(location.reduce((at, key) => at?.[key], gd)) === JSON.stringify(params.value);
    const changed = parts.filter((part) => !stays(part)), lines = !xaxis.autorange && !yaxis.autorange && gd.data.every(({ type }) => type === "scatter");
    const { data, layout } = changed.reduce((at, { location, params }) => put(at, location, params.value), { data: gd.data, layout: gd.layout });
    ahead.set(id, joined(ahead.get(id) || [], parts));
    const drawn = lines && changed.every(({ location: [of, , name] }) => of === "data" && /^[xy]$/.test(name))
      ? window.Plotly.animate(gd, { data: data.map(({ x, y }) => ({ x, y })) }, AT_ONCE) : window.Plotly.react(gd, data, layout, gd._context);
    drawn.catch((error) => error && (failed[id] = String(error).slice(0, 300))); // none: a newer one came
    return true;
  }

  /** Heavy: newer values of a component replace older ones, parts of a value join; calls and rows count each. */
  function later(id, values) {
    if (Object.keys(values).some((name) => name.startsWith("data"))) return props(id, values);
    if (document.getElementById(id)?.matches(".place:not(:empty)")) return; // a page that comes again keeps its charts
    const before = queue.get(id), counts = before && "rowTransaction" in { ...before, ...values }, waiting = counts ? (props(id, before), {}) : before || {};
    for (const name in values) {
      if (isPatch(values[name]) && isPatch(waiting[name])) values[name] = { ...values[name], operations: joined(waiting[name].operations, values[name].operations) };
      else if (isPatch(values[name]) && name in waiting) props(id, { [name]: waiting[name] });
    }
    queue.set(id, { ...waiting, ...values });
  }

  // Charts and rows out of sight wait until they are there. To measure them each time would lay out the page.
  const sight = new IntersectionObserver((changes) => { for (const one of changes) one.target.inSight = one.isIntersecting; more(); });
  /** The component that waits longest, of those in sight and not held. */
  function inSight() {
    for (const [id, values] of queue) {
      const el = "figure" in values || "rowData" in values || "api" in values ? document.getElementById(id) : null;
      const pressed = el?.matches(":active") || (Date.now() - released < TWICE_MS && el?.matches(":hover")); // a drag, or the first of two clicks
      const held = pressed || (Date.now() - moved > 1000 && el?.closest("[data-hold]")?.matches(":hover")); // a look; what was asked for comes
      if (!el || (el.inSight && !held)) return id;
      if (el.inSight === undefined) sight.observe(el);
    }
  }
  addEventListener("pointerup", () => { released = Date.now(); setTimeout(more, TWICE_MS); }, true);
  function draw(done) {
    const id = inSight(), values = queue.get(id), began = performance.now();
    if (!id) return done(0);
    queue.delete(id); props(id, values);
    setTimeout(() => done(performance.now() - began), 0);
  }
  /** A page that is new, or was scrolled, has more than one that waits: one a frame. */
  function more() {
    if (drawing || !inSight()) return;
    drawing = true;
    painted(() => draw(() => { drawing = false; more(); }));
  }
  addEventListener("click", ({ target }) => { // what a button is about must be there
    const card = target.closest?.("button")?.closest(".card");
    for (const [id, values] of card ? queue : []) if (card.contains(document.getElementById(id))) { queue.delete(id); props(id, values); }
  }, { capture: true });

  // The address is the page's state. Where the page stays, dcc.Location hears of it after the answer: Dash takes its time.
  const tell = () => { clearTimeout(untold); if (untold) dispatchEvent(new CustomEvent("_dashprivate_pushstate", { detail: "own" })); untold = 0; };
  function go(url, replace, quiet, stays) {
    if (url === location.pathname + location.search) return;
    history[replace ? "replaceState" : "pushState"]({}, "", url);
    if (!quiet) { clearTimeout(untold); untold = setTimeout(tell, 300); hello(); }
    if (!stays) tell();
  }
  /** Replace parts of the query: "a=1&b=" sets one and leaves out the other. */
  function patch(changes, replace = false, quiet = false) {
    const query = new URLSearchParams(location.search), given = new URLSearchParams(changes);
    for (const name of new Set(given.keys())) {
      query.delete(name);
      for (const value of given.getAll(name)) if (value) query.append(name, value);
    }
    go(location.pathname + (query.size ? `?${query}` : ""), replace, quiet, true);
  }
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const el = event.target.closest?.("[data-patch], [data-act], a[href], button, input");
    if (el?.getAttribute("role") === "tab") for (const tab of find("[role=tab]", el.closest("[role=tablist]"))) tab.setAttribute("aria-selected", tab === el); // at once; the server says it again
    if (el?.dataset.patch !== undefined) { event.preventDefault(); return patch(el.dataset.patch, "replace" in el.dataset); }
    if (el?.dataset.act && el.matches("button")) return request({ act: el.dataset.act, value: el.dataset.value || "" });
    const url = el?.href && !el.target && !el.hasAttribute("download") && new URL(el.href);
    if (!url || url.origin !== location.origin || !/^\/($|runs\/|compare|health)/.test(url.pathname) || el.getAttribute("href").startsWith("#")) return;
    event.preventDefault();
    go(url.pathname + url.search, "replace" in el.dataset);
  });
  for (const name of ["popstate", "_dashprivate_pushstate", "settings"]) addEventListener(name, ({ detail }) => detail === "own" || hello());
  Object.assign(window.stepstream, { Pace, patch });

  /** The page stands at its address: inputs show what it says, and the parts of it that this browser keeps are kept, or come back. */
  function arrived() {
    const query = new URLSearchParams(location.search), page = document.querySelector("[data-keep]");
    for (const el of find("[data-address]")) {
      const field = el.querySelector("input, select"), value = query.get(el.dataset.address) ?? el.dataset.default ?? (field.matches("select") ? null : "");
      if (field !== document.activeElement && !typed && value !== null) window.dash_clientside.set_props(field.id, { value: field.type === "checkbox" ? value !== "" : value });
    }
    if (!page) return;
    const names = page.dataset.keep.split(" "), kept = new URLSearchParams(localStorage.getItem("kept"));
    const of = (from) => names.flatMap((name) => from.getAll(name).map((value) => [name, value])), opened = page.dataset.opened;
    page.dataset.opened = "yes";
    if (!opened && !of(query).length) return of(kept).length && patch(new URLSearchParams(of(kept)), true);
    for (const name of names) kept.delete(name);
    for (const pair of of(query)) kept.append(...pair);
    localStorage.setItem("kept", kept);
  }

  const input = ({ target, type }) => {
    const name = target.closest?.("[data-address]")?.dataset.address;
    if (name) clearTimeout(typed); else return;
    const given = new URLSearchParams([[name, target.type === "checkbox" ? (target.checked ? "1" : "") : target.value]]);
    const put = () => { typed = 0; patch(given, type !== "change"); };
    if (type === "leave") put(); else typed = setTimeout(put, type === "change" ? 0 : target.type === "range" ? 30 : 150);
  };
  document.addEventListener("change", ({ target }) => (target.type !== "search" || typed) && input({ target, type: target.type === "search" ? "leave" : "change" })); // before the click that leaves
  document.addEventListener("input", ({ target }) => {
    const act = target.type === "range" && target.closest("[data-act]")?.dataset.act;
    act ? request({ act, value: target.value }) : /search|range/.test(target.type) && input({ target, type: "input" });
  });

  // Keys: an element says which are its own (data-key). In a list of tabs, arrows go on to the neighbour.
  addEventListener("keydown", (event) => {
    const { key, target, ctrlKey, shiftKey } = event;
    if (event.metaKey || event.altKey || (key === " " && target.closest?.("button, a, summary"))) return;
    if (!document.querySelector("[data-page]")) return setTimeout(() => target.dispatchEvent(new KeyboardEvent("keydown", { key, ctrlKey, shiftKey, bubbles: true })), 50);
    if (key === "Escape" && target.type === "search") { target.blur(); return patch(`${target.closest("[data-address]").dataset.address}=`, true); }
    if (target.closest?.("input:not([type=range]), select, textarea, [role=dialog]")) return;
    const named = (ctrlKey ? "Ctrl+" : "") + (shiftKey && key.length > 1 ? "Shift+" : "") + (key === " " ? "Space" : key);
    const tabs = target.role === "tab" && find("[role=tab]:not([hidden])", target.closest("[role=tablist]"));
    const at = tabs && { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, Home: -tabs.indexOf(target), End: tabs.length - 1 - tabs.indexOf(target) }[key];
    const next = at !== undefined && tabs && tabs[(tabs.indexOf(target) + at + tabs.length) % tabs.length];
    const own = next || (!target.closest?.(".ag-root") || key.length === 1 || key === "Escape" ? find(`[data-key~="${CSS.escape(named)}"]`).find((el) => el.checkVisibility?.() || el.offsetParent) : null);
    if (!own) return;
    event.preventDefault();
    const field = own.matches("input") ? own : own.querySelector("input");
    if (field || next) (field || next).focus();
    if (field) field.select();
    else own.click();
  });
  (window.dash_clientside ||= {}).stepstream = { copy: async ({ text = location.href }) => { // for callbacks of Python
    try { await navigator.clipboard.writeText(text); } catch { // not allowed, or no https
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area); area.select(); document.execCommand("copy"); area.remove();
    }
    return window.dash_clientside.no_update;
  } };
  open();
})();
