// Which nodes and lines the topology shows, and where. Pure: no element is touched here.
const SHOWN = [10, 14, 14];
const TITLES = ["Callers", "This node", "Services, peers"];

function graph(found, words, before) {
  const nodes = new Map();
  const lines = [];
  const local = new Set(found.workloads.rows.map((row) => row.uid));
  const add = (id, node) => nodes.get(id) ?? nodes.set(id, { id, weight: 0, ...node }).get(id);
  for (const row of found.workloads.rows) add(`w:${row.uid}`, workloadNode(row));
  const around = new Map(found.around.map((row) => [row.key, row]));
  for (const line of found.lines) {
    if (line.inbound && local.has(line.source)) continue; // drawn where it was opened
    const from = line.inbound ? `c:${line.source}` : `w:${line.source}`;
    const to = line.inbound ? `w:${line.target}` : line.service ? `s:${line.target}` : `x:${line.target}`;
    if (line.inbound) add(from, { column: 0, title: leaf(line.source), sub: "", state: "", full: line.source });
    else if (!line.service) add(to, { column: 2, title: leaf(line.target), sub: "direct", state: "", full: line.target });
    else add(to, serviceNode(around.get(line.target) ?? { key: line.target }));
    if (!nodes.has(from) || !nodes.has(to)) continue;
    const weight = (line.connections ?? 0) + (line.failed ?? 0) + (line.refused ?? 0);
    nodes.get(from).weight += weight;
    nodes.get(to).weight += weight;
    lines.push({ ...line, id: `${from} ${to}`, from, to, weight });
  }
  for (const node of nodes.values()) {
    if (node.column === 0 || node.id.startsWith("x:")) node.sub = perSecond(node.weight) + placeOf(node.full);
  }
  for (const row of found.workloads.rows) {
    for (const key of row.services) {
      if (!around.has(key)) continue;
      const to = add(`s:${key}`, serviceNode(around.get(key))).id;
      const from = `w:${row.uid}`;
      if (!lines.some((line) => line.from === from && line.to === to)) {
        lines.push({ id: `serves ${from} ${to}`, from, to, serves: true, weight: 0 });
      }
    }
  }
  return place(narrow(nodes, lines, words), before);
}

// " \u00b7 shop" of Kubernetes//Pod/shop/cart-1; nothing of an address.
function placeOf(full) {
  const parts = full.split("/");
  return parts.length > 2 ? ` \u00b7 ${parts.at(-2)}` : "";
}

function workloadNode(row) {
  const state = !row.enrolled || row.why ? "bad" : !row.known ? "warn" : "ok";
  const troubles = [!row.enrolled && "not enrolled", !row.known && "unknown to the control plane", row.why].filter(Boolean);
  const sub = troubles[0] ?? (row.connections === null ? row.namespace : `${perSecond(row.connections)} \u00b7 ${row.namespace}`);
  return { column: 1, title: row.name, sub, state, full: row.uid, alarm: troubles.length > 0, row };
}

function serviceNode(row) {
  if (row.state === undefined) return { column: 2, title: shortHost(row.key), sub: "unknown", state: "", full: row.key };
  const health = row.state === "ok" || row.state === "passthrough"
    ? `${whole(row.healthy)} of ${whole(row.endpoints)} healthy` : row.state;
  const parts = [health, row.rtt_ms === null ? null : time(row.rtt_ms)].filter(Boolean);
  return { column: 2, title: shortHost(row.key), sub: parts.join(" \u00b7 "), state: stateOf(row), full: row.key, alarm: stateOf(row) === "bad", row };
}

// Only what matches, and what it is joined to.
function narrow(nodes, lines, words) {
  const needles = words.toLowerCase().split(/\s+/).filter(Boolean);
  if (!needles.length) return { nodes, lines };
  const hit = (node) => needles.every((each) => node.full.toLowerCase().includes(each));
  const stay = new Set([...nodes.values()].filter(hit).map((node) => node.id));
  const near = lines.filter((line) => stay.has(line.from) || stay.has(line.to));
  near.forEach((line) => stay.add(line.from).add(line.to));
  return { nodes: new Map([...nodes].filter(([id]) => stay.has(id))), lines: near };
}

// The busiest of each column; those already shown stay unless others are clearly busier.
function place({ nodes, lines }, before) {
  const columns = [0, 1, 2].map((column) => {
    const all = [...nodes.values()].filter((node) => node.column === column);
    const worth = (node) => node.weight * (before.has(node.id) ? 2 : 1) + (before.has(node.id) ? 1e-6 : 0);
    all.sort((a, b) => worth(b) - worth(a) || Number(Boolean(b.alarm)) - Number(Boolean(a.alarm)) || (a.full < b.full ? -1 : 1));
    const kept = all.slice(0, SHOWN[column]);
    return { kept, more: all.length - kept.length };
  });
  columns.forEach(({ kept }) => kept.sort((a, b) => (a.full < b.full ? -1 : 1)));
  const shown = new Map(columns.flatMap(({ kept }) => kept).map((node) => [node.id, node]));
  const joined = lines.filter((line) => shown.has(line.from) && shown.has(line.to));
  uncross(columns, joined);
  return { columns, nodes: shown, lines: joined, hidden: lines.length - joined.length };
}

// Outer columns follow the order of the middle one: each node to the mean of what it is joined to.
function uncross(columns, lines) {
  const at = new Map(columns[1].kept.map((node, index) => [node.id, index]));
  for (const column of [0, 2]) {
    const mean = new Map();
    for (const node of columns[column].kept) {
      const ends = lines.flatMap((line) => (line.from === node.id ? [at.get(line.to)] : line.to === node.id ? [at.get(line.from)] : []));
      mean.set(node.id, ends.length ? ends.reduce((a, b) => a + b, 0) / ends.length : 1e6);
    }
    columns[column].kept.sort((a, b) => mean.get(a.id) - mean.get(b.id) || (a.full < b.full ? -1 : 1));
  }
}
