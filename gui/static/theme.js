document.documentElement.lang = "en"; // NiceGUI does not say it
// The look and the time zone, before the first paint: what was chosen here last, else what the system says.
(() => {
  const root = document.documentElement;
  const kept = (name) => {
    try {
      return localStorage.getItem(name);
    } catch {
      return null; // this browser keeps nothing for sites
    }
  };
  const chosen = kept("mailrace-theme");
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  root.dataset.theme = chosen === "dark" || chosen === "light" ? chosen : system;
  root.dataset.zone = kept("mailrace-zone") === "utc" ? "utc" : "local";
  const east = -new Date().getTimezoneOffset(); // minutes
  const two = (number) => String(Math.floor(Math.abs(number))).padStart(2, "0");
  const local = `UTC${east ? `${east < 0 ? "−" : "+"}${two(east / 60)}:${two(east % 60)}` : ""}`;
  root.style.setProperty("--zone", root.dataset.zone === "utc" ? '"UTC"' : `"Local, ${local}"`);
})();
