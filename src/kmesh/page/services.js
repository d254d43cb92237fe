const GOOD = new Set(["ok", "passthrough"]);
const stateOf = (row) =>
  GOOD.has(row.state) ? (row.healthy < row.endpoints ? "warn" : "ok")
    : row.state === "pending" || row.state === "no vip" ? "warn" : "bad";

const SERVICE_COLUMNS = [
  { title: "Service", sort: "name", draw(cell) {
    const name = h("b");
    const sub = h("span", { class: "sub" });
    cell.className = "name";
    cell.append(name, sub);
    return (row) => {
      setText(name, shortHost(row.key));
      setText(sub, [row.namespace, row.vips[0] ?? "no address"].join(" \u00b7 "));
      setAttribute(cell, "title", row.key);
    };
  } },
  { title: "Health", sort: "endpoints", draw(cell) {
    const inner = h("i");
    const text = h("small", { class: "muted" });
    const outer = h("div", { class: "health" }, h("span", { "aria-hidden": "true" }, inner), text);
    cell.append(outer);
    return (row) => {
      inner.style.width = `${row.endpoints ? (row.healthy / row.endpoints) * 100 : 0}%`;
      setAttribute(outer, "data-state", row.healthy === row.endpoints && row.endpoints ? "ok" : row.healthy ? "warn" : "bad");
      setText(text, `${whole(row.healthy)} of ${whole(row.endpoints)}`);
    };
  } },
  { title: "State", draw(cell) {
    const tag = h("span", {});
    cell.append(tag);
    return (row) => {
      setText(tag, row.state);
      setAttribute(tag, "class", `tag ${stateOf(row) === "ok" ? "ok" : stateOf(row)}`);
      setAttribute(tag, "title", row.why || null);
    };
  } },
  number("Connections", "connections", (row) => perSecond(row.connections)),
  number("Received", "bytes", (row) => bytes(row.received)),
  number("Sent", "bytes", (row) => bytes(row.sent)),
  number("Failed", "failed", (row) => perSecond(row.failed), (row) => row.failed > 0),
  number("Refused", "refused", (row) => perSecond(row.refused), (row) => row.refused > 0),
  number("Round trip", "rtt", (row) => time(row.rtt_ms)),
  number("Slots", "slots", (row) => whole(row.slots)),
];

function perSecond(value) {
  const text = rate(value);
  return text === ABSENT || text === "0" ? text : `${text}/s`;
}

function number(title, sort, show, alarming) {
  return { title, sort, number: true, draw(cell) {
    cell.className = "number";
    return (row) => {
      setText(cell, show(row));
      cell.classList.toggle("bad", Boolean(alarming?.(row)));
    };
  } };
}

function makeHead() {
  return SERVICE_COLUMNS.map((column) => h("th", { scope: "col", class: column.number ? "number" : null },
    column.sort ? h("button", { type: "button", "data-sort": column.sort, onclick: () => change({ sort: column.sort, offset: 0 }) }, column.title)
      : column.title));
}

function makeRow(row) {
  const element = h("tr", { tabindex: "-1", "data-key": row.key, onclick: () => showService(row.key) });
  const updates = SERVICE_COLUMNS.map((column) => {
    const cell = h("td");
    element.append(cell);
    return column.draw(cell);
  });
  element.update = (fresh) => updates.forEach((update) => update(fresh));
  return element;
}

const serviceHead = makeHead();
const serviceBody = h("tbody");
find("services-table").append(
  h("caption", { class: "hidden" }, "Services with health and rates; Enter opens one"),
  h("thead", {}, h("tr", {}, serviceHead)), serviceBody);
rove(serviceBody, "tr", { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, Home: "first", End: "last" });
serviceBody.addEventListener("keydown", (event) => {
  const row = event.target.closest("tr");
  if (event.key === "Enter" && row?.dataset.key) showService(row.dataset.key);
});

function drawServices({ last, sort, words }) {
  if (!last) return;
  const { rows, matching, total, offset } = last.services;
  if (rows.length === 0 && offset > 0) {
    change({ offset: 0 });
    return;
  }
  let marked = false;
  SERVICE_COLUMNS.forEach((column, at) => {
    const mine = !marked && column.sort === sort;
    marked ||= mine;
    setAttribute(serviceHead[at], "aria-sort", mine ? (sort === "name" ? "ascending" : "descending") : null);
  });
  if (rows.length) {
    keyed(serviceBody, rows, (row) => row.key, makeRow, (element, row) => element.update(row));
  } else {
    instead(serviceBody, h("tr", {}, h("td", { class: "empty", colspan: SERVICE_COLUMNS.length },
      words ? `No service matches \u201c${words}\u201d` : "The control plane has sent no service yet")));
  }
  settle(serviceBody, "tr[data-key]");
  setText(find("services-note"), words ? `${whole(matching)} of ${whole(total)}` : whole(total));
  const to = offset + rows.length;
  setText(find("pages"), matching ? `${whole(offset + 1)}\u2013${whole(to)} of ${whole(matching)}` : "");
  find("previous").disabled = offset === 0;
  find("next").disabled = to >= matching;
}

const turn = (by) => {
  const button = find(by < 0 ? "previous" : "next");
  if (!button.disabled) change({ offset: Math.max(0, feed.offset + by * PAGE_ROWS) });
};
find("previous").addEventListener("click", () => turn(-1));
find("next").addEventListener("click", () => turn(1));
feed.watchers.push(drawServices);
