function makeTable(row) {
  const name = h("span");
  const text = h("span", { class: "muted" });
  const inner = h("i");
  const outer = h("div", { class: "fill" }, h("span", { "aria-hidden": "true" }, inner));
  const hint = h("small", { class: "warn" });
  const element = h("li", {}, h("div", { class: "row" }, name, text), outer, hint);
  element.update = (fill) => {
    setText(name, fill.what);
    setText(text, `${whole(fill.used)} of ${whole(fill.capacity)}, ${share(fill.used, fill.capacity)}`);
    const soon = fill.full_in !== null && fill.full_in < 86400;
    setText(hint, soon ? `full in ${ago(fill.full_in)} at this pace` : "");
    setAttribute(element, "title", `${fill.table} grows to ${whole(fill.limit)}${fill.option ? ` (${fill.option})` : ""}`);
    inner.style.width = `${fill.capacity ? Math.min(100, (fill.used / fill.capacity) * 100) : 0}%`;
    const most = fill.limit ? fill.used / fill.limit : 0;
    setAttribute(outer, "data-state", most > 0.95 ? "bad" : most > 0.8 ? "warn" : "ok");
  };
  return element;
}

feed.watchers.push(({ last }) => last && keyed(find("tables"), last.tables, (row) => row.table, makeTable, (element, row) => element.update(row)));

// An answer may have any shape: what is known is said first, the rest is listed.
function listed(value) {
  if (value === null || value === undefined || value === "") return ABSENT;
  if (Array.isArray(value)) return value.length ? h("ul", {}, value.map((each) => h("li", {}, listed(each)))) : ABSENT;
  if (typeof value === "object") return facts(value);
  return typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
}

function facts(object) {
  return h("dl", {}, Object.entries(object).flatMap(([name, value]) => [h("dt", {}, spoken(name)), h("dd", {}, listed(value))]));
}

function showAnswer(found) {
  const { allowed, reason, ...rest } = found;
  const verdict = allowed === undefined ? null
    : h("p", { class: `verdict ${allowed ? "ok" : "bad"}` }, `${allowed ? "Allowed" : "Denied"}: ${spoken(reason)}`);
  find("answer").replaceChildren(h("div", { class: "answer" }, verdict, facts(rest)));
}

async function askWhy() {
  const fields = Object.fromEntries(new FormData(find("why")));
  try {
    showAnswer(await ask("/why", fields));
  } catch (error) {
    find("answer").replaceChildren(h("div", { class: "answer" },
      h("p", { class: "verdict bad" }, error.message), error.next ? h("p", { class: "muted" }, error.next) : null));
  }
}

find("why").addEventListener("submit", (event) => {
  event.preventDefault();
  askWhy();
});

function whyOf(source, destination, port) {
  const form = find("why");
  form.source.value = source;
  form.destination.value = destination;
  form.port.value = port;
  form.scrollIntoView({ block: "center" });
  form.source.focus();
  if (port) askWhy();
}

function split(address) {
  const at = address.lastIndexOf(":");
  return [address.slice(0, at).replace(/^\[|\]$/g, ""), address.slice(at + 1)];
}
