// Times in the one zone of the page: the browser's, or UTC, as the person chose; the other is at hand in a tooltip.
const two = (number) => String(number).padStart(2, "0");
export const inUtc = () => document.documentElement.dataset.zone === "utc";

// This moment by the server's clock: a browser's may be wrong, and then all ages would be.
let skew = null; // seconds; less than a page takes to come is none
export function now() {
  if (skew === null) {
    const said = Number(document.querySelector(".frame")?.dataset.now) - performance.timeOrigin / 1000;
    if (Number.isNaN(said)) return Date.now() / 1000;
    skew = Math.abs(said) > 30 ? said : 0;
  }
  return Date.now() / 1000 + skew;
}

// A time whose getUTC... are what a clock of the page's zone shows.
function wall(seconds) {
  const time = new Date(seconds * 1000);
  return inUtc() ? time : new Date(time - time.getTimezoneOffset() * 60000);
}

export function clock(seconds, withSeconds = true) {
  const time = wall(seconds);
  return `${two(time.getUTCHours())}:${two(time.getUTCMinutes())}${withSeconds ? `:${two(time.getUTCSeconds())}` : ""}`;
}

export function utc(seconds) {
  return `${new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

export function stamp(seconds) {
  return wall(seconds).toISOString().slice(0, 19).replace("T", " ");
}

export function both(seconds) {
  return inUtc() ? utc(seconds) : `${stamp(seconds)} local\n${utc(seconds)}`;
}

// "25 Nov", as the browser's language says it
export function day(seconds, more = {}) {
  return wall(seconds).toLocaleDateString(undefined, { day: "numeric", month: "short", timeZone: "UTC", ...more });
}

export const sameDay = (one, other) => stamp(one).slice(0, 10) === stamp(other).slice(0, 10);

// What a field for a time holds, and the other way round; an address and a rule say UTC.
export function field(iso) {
  const seconds = new Date(iso || NaN) / 1000;
  return Number.isNaN(seconds) ? "" : wall(seconds).toISOString().slice(0, 16);
}

export function meant(text) {
  const time = new Date(text ? `${text}${inUtc() ? "Z" : ""}` : NaN);
  return Number.isNaN(time.getTime()) ? "" : time.toISOString();
}

// How long it is until then: "12 s", "3 min", "4 h"; nothing where it is past.
export function left(seconds, now) {
  const more = Math.round(seconds - now);
  if (more <= 0) return "";
  if (more < 120) return `${more} s`;
  return more < 7200 ? `${Math.round(more / 60)} min` : `${Math.round(more / 3600)} h`;
}

export function ahead(seconds, now) {
  return seconds - now >= 0.5 ? `in ${left(seconds, now)}` : "now";
}

export function ago(seconds, now) {
  const age = Math.max(0, Math.round(now - seconds));
  if (age < 2) return "now";
  if (age < 60) return `${age} s ago`;
  if (age < 3600) return `${Math.floor(age / 60)} min ago`;
  return clock(seconds, false);
}
