const DENIAL_COLUMNS = ["Ago", "From", "To", "Reason", "Policy", ""];
const denialBody = h("tbody");
find("denials-table").append(
  h("caption", { class: "hidden" }, "Connections that were denied, the latest first"),
  h("thead", {}, h("tr", {}, DENIAL_COLUMNS.map((title) => h("th", { scope: "col" }, title || h("span", { class: "hidden" }, "Ask why"))))), denialBody);

const who = (uid) => leaf(uid) || "no workload";

function makeDenial(row) {
  const when = h("td", { class: "number muted" });
  const ask = h("button", { type: "button", onclick: () => {
    const [source] = split(row.source);
    const [destination, port] = split(row.destination);
    whyOf(source, destination, port);
  } }, "Why?");
  setAttribute(ask, "aria-label", `Why was ${row.source} to ${row.destination} denied?`);
  const cell = (uid, address) => h("td", { class: "name", title: uid }, h("b", {}, who(uid)), h("span", { class: "sub mono" }, address));
  const element = h("tr", {}, when, cell(row.source_workload, row.source), cell(row.destination_workload, row.destination),
    h("td", {}, h("span", { class: `tag ${row.dry_run ? "warn" : "bad"}` }, (row.dry_run ? "dry run: " : "") + spoken(row.reason)),
      row.suppressed ? h("span", { class: "sub" }, `and ${whole(row.suppressed)} more`) : null),
    h("td", { class: "name", title: row.policy }, row.policy || ABSENT), h("td", {}, ask));
  element.update = (fresh) => setText(when, ago(fresh.seconds_ago));
  return element;
}

const keyOfDenial = (row) => `${row.time} ${row.source} ${row.destination} ${row.policy} ${row.dry_run}`;

function drawDenials({ last, words }) {
  if (!last) return;
  const needles = words.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (row) => Object.values(row).join(" ").toLowerCase();
  const rows = last.denials.filter((row) => needles.every((each) => text(row).includes(each))).reverse().slice(0, 30);
  setText(find("denials-note"), words ? `${whole(rows.length)} of ${whole(last.denials.length)}` : "");
  if (rows.length) {
    keyed(denialBody, rows, keyOfDenial, makeDenial, (element, row) => element.update(row));
    return;
  }
  instead(denialBody, h("tr", {}, h("td", { class: "empty", colspan: DENIAL_COLUMNS.length },
    last.denials.length ? `No denial matches \u201c${words}\u201d` : "Nothing was denied")));
}
feed.watchers.push(drawDenials);
