const THEMES = ["auto", "light", "dark"];
const KEYS = [
  ["/", "search"], ["Esc", "clear the search, close what is open"], ["[ and ]", "previous, next page of services"],
  ["arrows, j, k", "move among rows and nodes"], ["Enter", "open a service, choose a node"], ["w", "ask why"],
  ["p", "pause"], ["t", "colours: as the system, light, dark"], ["?", "this list"],
];

function drawStatus() {
  const { last, failed, paused } = feed;
  const pill = find("status");
  document.documentElement.classList.toggle("stale", Boolean(failed));
  const say = (state, text) => {
    setAttribute(pill, "data-state", state);
    setText(pill, text);
  };
  if (failed) say("bad", last ? `no answer since ${new Date(feed.when).toLocaleTimeString()}` : `no answer: ${failed.message}`);
  else if (paused) say("warn", "paused");
  else if (last) say(last.synced ? "ok" : "warn", last.synced ? "in sync" : "syncing");
  if (!last) return;
  setText(find("node"), [last.node.name, last.version].filter(Boolean).join(" \u00b7 "));
  document.title = last.node.name ? `${last.node.name} \u00b7 kmesh` : "kmesh";
  const absent = Object.values(last.absent);
  find("absent").hidden = absent.length === 0;
  setText(find("absent"), absent.length ? `Rates are missing: ${absent.join("; ")}.` : "");
}
feed.watchers.unshift(drawStatus);

function search() {
  feed.offset = 0;
  change({ words: find("words").value.trim() });
}
let typing = 0;
find("words").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, 150);
});
document.querySelector(".search").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
find("window").addEventListener("change", (event) => change({ window: Number(event.target.value) }));

function pause() {
  feed.paused = !feed.paused;
  setAttribute(find("pause"), "aria-pressed", String(feed.paused));
  if (feed.paused) {
    schedule();
    drawStatus();
  } else poll();
}
find("pause").addEventListener("click", pause);

function colours(step) {
  const root = document.documentElement;
  let now = THEMES.indexOf(localStorage.getItem("theme"));
  now = (Math.max(0, now) + step) % THEMES.length;
  localStorage.setItem("theme", THEMES[now]);
  setAttribute(root, "data-theme", now ? THEMES[now] : null);
  setText(find("theme"), { auto: "Auto", light: "Light", dark: "Dark" }[THEMES[now]]);
  setAttribute(find("theme"), "aria-label", `Colours: ${THEMES[now]}`);
}
find("theme").addEventListener("click", () => colours(1));
colours(0);

const keys = find("keys");
keys.append(h("div", { class: "top" }, h("h2", { id: "keys-title" }, "Keys"), h("button", { type: "button", onclick: () => keys.close() }, "Close")),
  h("dl", {}, KEYS.flatMap(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])));
find("help").addEventListener("click", () => keys.showModal());
for (const dialog of [keys, detail]) {
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

const SHORTCUTS = {
  "/": () => find("words").focus(), "[": () => turn(-1), "]": () => turn(1), p: pause, t: () => colours(1),
  w: () => find("why").source.focus(), "?": () => keys.showModal(),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typed = event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    if (event.target === find("words") && find("words").value) {
      find("words").value = "";
      search();
    } else if (typed) event.target.blur();
    else if (shape.selected) select(shape.selected);
    return;
  }
  if (typed || !SHORTCUTS[event.key]) return;
  event.preventDefault();
  SHORTCUTS[event.key]();
});

poll();
