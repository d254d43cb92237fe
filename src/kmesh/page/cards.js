const CARDS = [
  { name: "connections", title: "Connections", unit: "/s", show: (v) => [rate(v), "/s"] },
  { name: "received", title: "Received", show: bytesParts },
  { name: "sent", title: "Sent", show: bytesParts },
  { name: "failed", title: "Failed", alert: true, show: (v) => [rate(v), "/s"] },
  { name: "refused", title: "Refused", alert: true, show: (v) => [rate(v), "/s"] },
  { name: "rtt_ms", title: "Round trip", show: (v) => time(v).split(" ") },
];

function spark(values) {
  const line = svg("path", {});
  const area = svg("path", { class: "area" });
  const drawn = svg("svg", { class: "spark", viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" }, area, line);
  drawn.draw = (points) => {
    const known = points.map((value) => value ?? 0);
    const most = Math.max(...known, 1e-9);
    const at = (value, i) => `${100 - (known.length - 1 - i) * (100 / (KEEP - 1))},${28 - (value / most) * 25}`;
    const path = known.length > 1 ? `M${known.map(at).join("L")}` : "";
    line.setAttribute("d", path);
    area.setAttribute("d", path ? `${path}V30H${100 - (known.length - 1) * (100 / (KEEP - 1))}Z` : "");
  };
  drawn.draw(values);
  return drawn;
}

function makeCard(card) {
  const value = h("span", { class: "number-part" });
  const unit = h("span", { class: "unit" });
  const chart = spark([]);
  const figure = h("figure", { class: "card", "data-card": card.name },
    h("figcaption", {}, card.title), h("div", { class: "value" }, value, " ", unit), chart);
  figure.update = (found) => {
    const [number, text] = card.show(found.total[card.name]);
    setText(value, number);
    setText(unit, number === ABSENT ? "" : text ?? "");
    figure.classList.toggle("alert", Boolean(card.alert && found.total[card.name] > 0));
    chart.draw(feed.history[card.name] ?? []);
  };
  return figure;
}

const cards = CARDS.map(makeCard);
find("cards").append(...cards);
feed.watchers.push(({ last }) => last && cards.forEach((card) => card.update(last)));
