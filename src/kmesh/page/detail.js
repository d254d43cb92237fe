const detail = find("detail");

function openDetail(title, ...content) {
  detail.replaceChildren(
    h("div", { class: "top" }, h("h2", { id: "detail-title" }, title),
      h("button", { type: "button", "aria-label": "Close", onclick: () => detail.close() }, "Close")), ...content);
  if (!detail.open) detail.showModal();
}

const ratesOf = (row) => ({
  connections: perSecond(row.connections), received: bytes(row.received), sent: bytes(row.sent),
  failed: perSecond(row.failed), refused: perSecond(row.refused),
  "sent again": perSecond(row.retransmits), "round trip": time(row.rtt_ms),
});

async function showService(key) {
  let row;
  try {
    row = await ask("/top/service", { key, window: feed.window });
  } catch (error) {
    openDetail(key, h("p", { class: "bad" }, error.message), h("p", { class: "muted" }, error.next ?? ""));
    return;
  }
  const ports = row.ports.map(([port, target]) => (target ? `${port} to ${target}` : `${port} to a named port`));
  openDetail(key,
    facts({ state: row.why ? `${row.state}: ${row.why}` : row.state, addresses: row.vips.join(", "), ports: ports.join(", "),
      mode: row.mode, waypoint: row.waypoint, records: whole(row.records), "endpoint slots": whole(row.slots) }),
    h("h3", {}, `Now, over ${feed.window} s`), facts(ratesOf(row)),
    h("h3", {}, `${plural(row.endpoints, "endpoint")}, ${whole(row.healthy)} healthy, ${whole(row.local)} on this node`),
    h("div", { class: "scroll" }, members(row)));
}

function members(row) {
  const titles = ["Workload", "Address", "Health", "Node", "Weight"];
  return h("table", {}, h("thead", {}, h("tr", {}, titles.map((title) => h("th", { scope: "col", class: title === "Weight" ? "number" : null }, title)))),
    h("tbody", {}, row.members.map((each) => h("tr", {},
      h("td", { class: "name", title: each.uid }, leaf(each.uid)), h("td", { class: "mono", title: each.addresses.join(", ") }, each.addresses[0] ?? ABSENT),
      h("td", {}, h("span", { class: `tag ${each.healthy ? "ok" : "bad"}` }, each.healthy ? "healthy" : "unhealthy")),
      h("td", {}, each.local ? "this node" : each.node || ABSENT), h("td", { class: "number" }, whole(each.weight)))),
    row.endpoints > row.members.length ? h("tr", {}, h("td", { class: "empty", colspan: 5 }, `and ${whole(row.endpoints - row.members.length)} more`)) : null));
}

function showWorkload(uid) {
  const row = feed.last.workloads.rows.find((each) => each.uid === uid);
  if (!row) return;
  openDetail(row.name,
    facts({ uid, namespace: row.namespace, addresses: row.addresses.join(", "), enrolled: row.enrolled,
      "known to the control plane": row.known, guard: row.guard, trouble: row.why || "none", services: row.services }),
    h("h3", {}, `Now, over ${feed.window} s`), facts(ratesOf(row)),
    h("p", {}, h("button", { type: "button", onclick: () => { detail.close(); whyOf("", row.addresses[0] ?? "", ""); } }, "Ask why about this workload")));
}
