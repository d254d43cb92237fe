const BOX = 40;
const STEP = 52;
const HEAD = 24;
const canvas = document.createElement("canvas").getContext("2d");
const drawing = svg("svg", { role: "group", "aria-labelledby": "topology-title" });
const linesLayer = svg("g");
const ratesLayer = svg("g", { "aria-hidden": "true" });
const nodesLayer = svg("g");
const labelsLayer = svg("g", { "aria-hidden": "true" });
drawing.append(labelsLayer, linesLayer, nodesLayer, ratesLayer);
find("topology").append(drawing);
const shape = { graph: { nodes: new Map() }, width: 0, selected: null };

function fit(text, font, width) {
  canvas.font = font;
  if (canvas.measureText(text).width <= width) return text;
  let end = text.length;
  while (end > 1 && canvas.measureText(`${text.slice(0, end)}\u2026`).width > width) end -= 1;
  return `${text.slice(0, end)}\u2026`;
}

function drawTopology() {
  const { last, words } = feed;
  if (!last) return;
  shape.graph = graph(last, words, shape.graph.nodes);
  const { columns, nodes, lines } = shape.graph;
  if (shape.selected && !nodes.has(shape.selected)) shape.selected = null;
  const width = find("topology").clientWidth || 900;
  const used = columns.map(({ kept }, column) => (kept.length || column > 0 ? column : null)).filter((c) => c !== null);
  const box = Math.min(270, Math.max(96, width / used.length - 40));
  const rows = Math.max(2, ...columns.map(({ kept, more }) => kept.length + (more ? 1 : 0)));
  const height = HEAD + rows * STEP;
  setAttribute(drawing, "viewBox", `0 0 ${width} ${height}`);
  setAttribute(drawing, "height", height);
  const left = (column) => used.length === 1 ? 0 : (used.indexOf(column) * (width - box)) / (used.length - 1);
  for (const column of used) {
    const { kept, more } = columns[column];
    const start = HEAD + ((rows - kept.length - (more ? 1 : 0)) * STEP) / 2;
    kept.forEach((node, index) => Object.assign(node, { x: left(column), y: start + index * STEP, index, box }));
    columns[column].end = start + kept.length * STEP;
  }
  drawLabels(used, columns, left, box);
  spread(lines, nodes);
  drawLines(lines, nodes);
  keyed(nodesLayer, [...nodes.values()].sort((a, b) => a.column - b.column || a.index - b.index), (node) => node.id, makeNode, drawNode);
  settle(nodesLayer, ".node");
  drawNote();
}

function drawLabels(used, columns, left, box) {
  labelsLayer.replaceChildren(...used.flatMap((column) => {
    const { kept, more, end } = columns[column];
    const texts = [svg("text", { class: "label", x: left(column), y: 12 }, TITLES[column])];
    if (more) texts.push(svg("text", { class: "label", x: left(column) + box / 2, y: end + 22, "text-anchor": "middle" }, `and ${whole(more)} more: search to see them`));
    else if (!kept.length) texts.push(svg("text", { class: "label", x: left(column), y: HEAD + 26 }, column === 1 ? "No pod is enrolled here" : "No traffic yet"));
    return texts;
  }));
}

// Lines leave and reach a node side by side, in the order of their other ends.
function spread(lines, nodes) {
  for (const [mine, other, place] of [["from", "to", "y1"], ["to", "from", "y2"]]) {
    for (const group of Map.groupBy(lines, (line) => line[mine]).values()) {
      group.sort((a, b) => nodes.get(a[other]).y - nodes.get(b[other]).y);
      const gap = Math.min(7, (BOX - 12) / group.length);
      group.forEach((line, i) => {
        line[place] = nodes.get(line[mine]).y + BOX / 2 + (i - (group.length - 1) / 2) * gap;
      });
    }
  }
}

function ends(line, nodes) {
  const from = nodes.get(line.from);
  return [from.x + from.box, line.y1, nodes.get(line.to).x, line.y2];
}

function drawLines(lines, nodes) {
  const chosen = shape.selected;
  keyed(linesLayer, lines, (line) => line.id, () => svg("path", { class: "line" }, svg("title")), (path, line) => {
    const [x1, y1, x2, y2] = ends(line, nodes);
    const bend = Math.max(30, (x2 - x1) / 2);
    setAttribute(path, "d", `M${x1},${y1}C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}`);
    setAttribute(path, "stroke-width", line.serves ? 2 : 1.25 + Math.min(5.5, Math.log2(1 + line.weight) * 0.75));
    const bad = line.failed > 0 || line.refused > 0;
    const dim = chosen && line.from !== chosen && line.to !== chosen;
    setAttribute(path, "class", ["line", line.serves && "serves", !line.serves && !line.weight && "idle", bad && "bad", dim && "dim"].filter(Boolean).join(" "));
    setText(path.firstChild, line.serves ? `${nodes.get(line.from).title} is an endpoint of ${nodes.get(line.to).title}` : `${nodes.get(line.from).title} to ${nodes.get(line.to).title}: ${said(line)}`);
  });
  const marked = lines.filter((line) => !line.serves && chosen && (line.from === chosen || line.to === chosen));
  ratesLayer.replaceChildren(...marked.map((line) => {
    const [x1, y1, x2, y2] = ends(line, nodes);
    const at = line.from === chosen ? 0.72 : 0.28;
    const ease = at * at * (3 - 2 * at);
    return svg("text", { class: "rate", x: x1 + (x2 - x1) * at, y: y1 + (y2 - y1) * ease + 4, "text-anchor": "middle" }, brief(line));
  }));
}

function brief(line) {
  const parts = [];
  if (line.connections || !(line.failed || line.refused)) parts.push(perSecond(line.connections));
  if (line.failed) parts.push(`${perSecond(line.failed)} failed`);
  if (line.refused) parts.push(`${perSecond(line.refused)} refused`);
  if (line.rtt_ms !== null) parts.push(time(line.rtt_ms));
  return parts.join(" \u00b7 ");
}

function said(row) {
  if (row.connections === null || row.connections === undefined) return "not counted";
  const parts = [`${rate(row.connections)} connections per second`];
  if (row.failed > 0) parts.push(`${rate(row.failed)} failed`);
  if (row.refused > 0) parts.push(`${rate(row.refused)} refused`);
  if (row.rtt_ms !== null && row.rtt_ms !== undefined) parts.push(`${time(row.rtt_ms)} round trip`);
  return parts.join(", ");
}

function makeNode(node) {
  return svg("g", { class: "node", role: "button", tabindex: "-1", "data-id": node.id, onclick: () => select(node.id) },
    svg("title"), svg("rect", { class: "box", rx: 8, height: BOX }), svg("rect", { class: "mark", rx: 2, width: 4, height: BOX - 16, x: 7, y: 8 }),
    svg("text", { class: "title", x: 19, y: 17 }), svg("text", { class: "sub", x: 19, y: 32 }));
}

function drawNode(element, node) {
  const [title, box, mark, name, sub] = element.children;
  setAttribute(element, "transform", `translate(${node.x} ${node.y})`);
  setAttribute(box, "width", node.box);
  setAttribute(mark, "class", `mark ${node.state}`);
  setText(title, node.full);
  setText(name, fit(node.title, "600 13px system-ui", node.box - 28));
  setText(sub, fit(node.sub, "11.5px system-ui", node.box - 28));
  setAttribute(sub, "class", `sub ${node.alarm ? "bad" : ""}`);
  const near = !shape.selected || shape.selected === node.id || shape.graph.lines.some((line) => (line.from === node.id && line.to === shape.selected) || (line.to === node.id && line.from === shape.selected));
  setAttribute(element, "class", near ? "node" : "node dim");
  setAttribute(element, "aria-pressed", String(shape.selected === node.id));
  setAttribute(element, "aria-label", `${TITLES[node.column].toLowerCase()}: ${node.title}, ${node.sub || said(node.row ?? {})}`);
}

function select(id) {
  shape.selected = shape.selected === id ? null : id;
  drawTopology();
}

function drawNote() {
  const node = shape.graph.nodes.get(shape.selected);
  const note = find("topology-note");
  if (!node) {
    setText(note, shape.graph.hidden ? `${plural(shape.graph.hidden, "line")} not shown` : "");
    return;
  }
  const open = node.column === 1 ? () => showWorkload(node.full) : node.id.startsWith("s:") ? () => showService(node.full) : null;
  note.replaceChildren(h("span", {}, `${node.full}: ${said(node.row ?? {})} `), open ? h("button", { type: "button", onclick: open }, "Details") : "");
}

// Up and down within a column, left and right to the nearest of the next one.
nodesLayer.addEventListener("keydown", (event) => {
  const node = shape.graph.nodes.get(event.target.dataset?.id);
  if (!node) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    select(node.id);
    return;
  }
  const step = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
  if (!step) return;
  event.preventDefault();
  const kept = (shape.graph.columns[node.column + step[0]]?.kept ?? []).filter((each) => each !== node);
  const wanted = node.y + step[1] * STEP;
  const goals = step[1] ? kept.filter((each) => each.y === wanted) : kept;
  const goal = goals.sort((a, b) => Math.abs(a.y - wanted) - Math.abs(b.y - wanted))[0];
  const element = goal && nodesLayer.querySelector(`[data-id="${CSS.escape(goal.id)}"]`);
  if (element) {
    settle(nodesLayer, ".node", element);
    element.focus();
  }
});

feed.watchers.push(drawTopology);
new ResizeObserver(() => drawTopology()).observe(find("topology"));
