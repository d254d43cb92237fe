// What is asked, and what was answered last. Everything on the page is drawn from here.
const PAGE_ROWS = 50;
const EVERY = 2000;
const KEEP = 60;
const feed = {
  words: "", sort: "name", offset: 0, window: 5, paused: false,
  last: null, failed: null, when: 0, history: {}, watchers: [],
};
let pending = null;
let timer = 0;

async function ask(path, parameters, signal) {
  const response = await fetch(`${path}?${new URLSearchParams(parameters)}`, { signal });
  const document = await response.json().catch(() => null);
  if (!response.ok || document === null) {
    const problem = new Error(document?.error ?? `${path}: ${response.status}`);
    problem.next = document?.next_step;
    problem.code = document?.code;
    throw problem;
  }
  return document;
}

async function poll() {
  clearTimeout(timer);
  pending?.abort();
  const mine = (pending = new AbortController());
  try {
    const found = await ask("/top", {
      q: feed.words, sort: feed.sort, offset: feed.offset, limit: PAGE_ROWS, window: feed.window,
    }, mine.signal);
    feed.last = found;
    feed.failed = null;
    feed.when = Date.now();
    remember(found);
  } catch (error) {
    if (mine.signal.aborted) return;
    feed.failed = error;
  }
  for (const watcher of feed.watchers) watcher(feed);
  schedule();
}

function schedule() {
  clearTimeout(timer);
  if (!feed.paused && !document.hidden) timer = setTimeout(poll, EVERY);
}

function remember(found) {
  if (found.seconds === null) return;
  for (const [name, value] of Object.entries(found.total)) {
    const past = (feed.history[name] ??= []);
    past.push(value);
    if (past.length > KEEP) past.shift();
  }
}

function change(what) {
  Object.assign(feed, what);
  poll();
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !feed.paused) poll();
});
