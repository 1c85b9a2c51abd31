// Times as people read them: local, with UTC at hand.
const two = (number) => String(number).padStart(2, "0");

export function clock(seconds, withSeconds = true) {
  const time = new Date(seconds * 1000);
  return `${two(time.getHours())}:${two(time.getMinutes())}${withSeconds ? `:${two(time.getSeconds())}` : ""}`;
}

export function utc(seconds) {
  return `${new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

export function both(seconds) {
  const time = new Date(seconds * 1000);
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${day} ${clock(seconds)} local\n${utc(seconds)}`;
}

export function ago(seconds, now) {
  const age = Math.max(0, Math.round(now - seconds));
  if (age < 2) return "now";
  if (age < 60) return `${age} s ago`;
  if (age < 3600) return `${Math.floor(age / 60)} min ago`;
  return clock(seconds, false);
}
