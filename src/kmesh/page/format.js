const ABSENT = "\u2013"; // what is not known is not nought
const DIGITS = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const WHOLE = new Intl.NumberFormat("en");

const whole = (value) => (value === null || value === undefined ? ABSENT : WHOLE.format(value));

function rate(value) {
  if (value === null || value === undefined) return ABSENT;
  if (value === 0) return "0";
  if (value < 0.01) return "<0.01";
  return value >= 1000 ? WHOLE.format(Math.round(value)) : DIGITS.format(value);
}

function scaled(value, steps, units) {
  if (value === null || value === undefined) return [ABSENT, units[0]];
  let at = 0;
  let rest = value;
  while (rest >= steps && at < units.length - 1) {
    rest /= steps;
    at += 1;
  }
  return [rest === 0 ? "0" : rest < 0.1 ? "<0.1" : DIGITS.format(rest), units[at]];
}

const BYTES = ["B/s", "KiB/s", "MiB/s", "GiB/s", "TiB/s"];
const bytesParts = (value) => scaled(value, 1024, BYTES);

function bytes(value) {
  const [number, unit] = bytesParts(value);
  return number === ABSENT || number === "0" ? number : `${number} ${unit}`;
}

function time(ms) {
  if (ms === null || ms === undefined) return ABSENT;
  const [number, unit] = scaled(ms * 1000, 1000, ["\u00b5s", "ms", "s"]);
  return `${number} ${unit}`;
}

function share(used, all) {
  if (!all) return ABSENT;
  const percent = (used / all) * 100;
  return used > 0 && percent < 0.1 ? "<0.1 %" : `${DIGITS.format(percent)} %`;
}

const plural = (count, one) => `${whole(count)} ${one}${count === 1 ? "" : "s"}`;
const leaf = (name) => name.slice(name.lastIndexOf("/") + 1);

// "shop/cart.shop.svc.cluster.local" is known as cart, other hosts by their whole name.
function shortHost(key) {
  const host = leaf(key);
  const at = host.indexOf(`.${key.slice(0, key.indexOf("/"))}.svc.`);
  return at > 0 ? host.slice(0, at) : host;
}

const spoken = (reason) => (reason ?? "").replaceAll("_", " ");

function ago(seconds) {
  if (seconds === null || seconds === undefined) return ABSENT;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}
