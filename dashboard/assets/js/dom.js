// Small helpers over the DOM. What workers print only ever becomes text: nothing here reads HTML.

export const byId = (id) => document.getElementById(id);

/** An element with properties, attributes (`aria-…`, `data-…`, `role`) and children. */
export function h(tag, props = {}, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) el.addEventListener(name.slice(2), value);
    else if (name in el && !name.includes("-")) el[name] = value;
    else el.setAttribute(name, value);
  }
  el.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return el;
}

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  const el = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) el.setAttribute(name, value);
  el.append(...children);
  return el;
}

/** Set text only where it changed: an untouched node costs no layout. */
export function setText(el, text) {
  const value = String(text), node = el.firstChild;
  if (node?.nodeType !== Node.TEXT_NODE || node.nextSibling) el.textContent = value;
  else if (node.data !== value) node.data = value; // the node stays: half the cost of a new one
}

/** Set or remove an attribute, only where it changed. */
export function setAttr(el, name, value) {
  if (value === null || value === undefined) el.removeAttribute(name);
  else if (el.getAttribute(name) !== String(value)) el.setAttribute(name, value);
}

export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** One of the six series colours, the same for one key everywhere. */
export function colour(key) {
  let hash = 2166136261;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 16777619);
  return `var(--series-${(hash >>> 0) % 6})`;
}

let toastTimer = 0;

/** Say something for two seconds, to eyes and screen readers. */
export function toast(message) {
  const el = byId("toast");
  el.textContent = message;
  el.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (el.hidden = true), 2000);
}

/** Copy text, also where the clipboard API is refused (plain http from another machine). */
export async function copy(text, what = "Copied") {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { value: text, style: "position:fixed;opacity:0" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast(what);
}

const watched = new WeakMap();
const resizes = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) watched.get(target)?.size(contentRect.width, contentRect.height);
});
const sights = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) watched.get(target)?.sight(isIntersecting);
});

/** Tell of an element's size and whether it is in sight, so that nobody asks: asking costs a layout. */
export function watch(el, size, sight) {
  watched.set(el, { size, sight });
  resizes.observe(el);
  sights.observe(el);
  return () => {
    watched.delete(el);
    resizes.unobserve(el);
    sights.unobserve(el);
  };
}
