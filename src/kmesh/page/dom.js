"use strict";
const SVG = "http://www.w3.org/2000/svg";
const find = (id) => document.getElementById(id);

// Text is only ever set as text: nothing that the mesh is named can become markup.
function fillIn(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== undefined && value !== null && value !== false) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.flat().filter((each) => each !== null && each !== undefined));
  return element;
}

const h = (tag, attributes, ...children) =>
  fillIn(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  fillIn(document.createElementNS(SVG, tag), attributes, children);

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, name, value) {
  if (value === null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

const rowsOf = new WeakMap();

// Rows by key: what stays keeps its element, and with it the focus.
function keyed(parent, rows, keyOf, make, update) {
  const old = rowsOf.get(parent) ?? new Map();
  const fresh = new Map();
  const focused = document.activeElement;
  let previous = null;
  for (const row of rows) {
    const key = keyOf(row);
    const element = old.get(key) ?? make(row);
    update(element, row);
    const place = previous ? previous.nextSibling : parent.firstChild;
    if (element !== place) parent.insertBefore(element, place);
    fresh.set(key, element);
    previous = element;
  }
  while (previous ? previous.nextSibling : parent.firstChild) {
    (previous ? previous.nextSibling : parent.firstChild).remove();
  }
  rowsOf.set(parent, fresh);
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus();
}

function instead(parent, ...children) {
  rowsOf.delete(parent);
  parent.replaceChildren(...children);
}

// Arrow keys move among items of which one is in the tab order.
function rove(container, selector, keys) {
  container.addEventListener("keydown", (event) => {
    const step = keys[event.key];
    const items = [...container.querySelectorAll(selector)];
    const at = items.indexOf(event.target.closest(selector));
    if (step === undefined || at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const goal = step === "first" ? 0 : step === "last" ? items.length - 1 : at + step;
    const next = items[Math.max(0, Math.min(items.length - 1, goal))];
    settle(container, selector, next);
    next.focus();
  });
  container.addEventListener("focusin", (event) => {
    const item = event.target.closest(selector);
    if (item) settle(container, selector, item);
  });
}

function settle(container, selector, chosen) {
  const items = container.querySelectorAll(selector);
  const stop = chosen ?? container.querySelector(`${selector}[tabindex="0"]`) ?? items[0];
  for (const item of items) setAttribute(item, "tabindex", item === stop ? "0" : "-1");
}
