document.documentElement.lang = "en"; // NiceGUI does not say it
// The look, before the first paint: what was chosen here last, else what the system says.
document.documentElement.lang = "en"; // NiceGUI does not say it
(() => {
  const chosen = localStorage.getItem("mailrace-theme");
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.documentElement.dataset.theme = chosen === "dark" || chosen === "light" ? chosen : system;
})();
