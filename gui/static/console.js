// What every view has: the look, the keys, and the menu. No view logic.
const root = document.documentElement;

function widgets() {
  if (window.Quasar?.Dark?.set) Quasar.Dark.set(root.dataset.theme === "dark");
}

function keep(name, value) {
  try {
    localStorage.setItem(name, value);
    return true;
  } catch {
    return false; // this browser keeps nothing for sites
  }
}

function toggleTheme() {
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  keep("mailrace-theme", root.dataset.theme);
  widgets();
}

function changeZone() {
  if (keep("mailrace-zone", root.dataset.zone === "utc" ? "local" : "utc")) location.reload();
}

function help() {
  const dialog = document.querySelector("dialog.keys");
  if (dialog) dialog.open ? dialog.close() : dialog.showModal();
}

function leave() {
  document.body.classList.remove("menu");
  // What had the focus in a drawer may be gone from it by now, or have moved, which takes the focus away too.
  if (!document.querySelector("dialog[open]")) document.querySelector(".drawer [data-act=close]")?.click();
}

// A proxy may show the console under a path of its own, which no link of ours has.
const under = () => window.path_prefix ?? "";
const ours = (path) => typeof path === "string" && path.startsWith("/") && under() && !path.startsWith(`${under()}/`);

function prefixed(event) {
  const link = event.target.closest?.('a[href^="/"]');
  if (link && ours(link.getAttribute("href"))) link.setAttribute("href", under() + link.getAttribute("href"));
}
for (const kind of ["pointerdown", "focusin", "click"]) document.addEventListener(kind, prefixed, true);

// To another instance: the same view, with the filters that the address has at this moment.
function carried(event) {
  const link = event.target.closest?.("a[data-instance]");
  if (!link) return;
  const here = location.pathname.slice(under().length) + location.search;
  link.href = `${link.getAttribute("href").split("?")[0]}?to=${encodeURIComponent(here)}`;
}
for (const kind of ["pointerdown", "focusin", "click"]) document.addEventListener(kind, carried, true);
for (const name of ["pushState", "replaceState"]) {
  const real = history[name];
  history[name] = (state, title, path) => real.call(history, state, title, ours(path) ? under() + path : path);
}

// Back closes a drawer and stays in the view, as on a phone one expects.
let entered = false; // an entry of the history stands for the drawer
let closing = false; // Back was pressed, and the server is told
new MutationObserver(() => {
  const open = Boolean(document.querySelector(".drawer"));
  if (closing && !open) closing = entered = false;
  if (closing || open === entered) return;
  entered = open;
  if (open) history.pushState(history.state, "", location.href);
  else history.back();
}).observe(document.documentElement, { childList: true, subtree: true });
addEventListener("popstate", () => {
  if (!entered) return;
  closing = true;
  document.querySelector(".drawer [data-act=close]")?.click();
});

const typing = (target) => target.closest?.("input, textarea, select, [contenteditable=true], .q-menu");
let going = 0; // when `g` was pressed

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  if (document.querySelector("dialog[open]") && event.key !== "Escape" && event.key !== "?") return;
  if (event.key === "Escape") leave();
  if (Date.now() - going < 1500) {
    going = 0;
    const link = document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`);
    if (link) {
      event.preventDefault();
      link.click();
      return;
    }
  }
  if (event.key === "?") help();
  else if (event.key === "g") going = Date.now();
  else if (event.key === "/") {
    event.preventDefault();
    document.dispatchEvent(new CustomEvent("mailrace-search"));
  } else if (event.key === "f") {
    const field =
      document.querySelector(".stage input[data-search]") ?? document.querySelector(".stage input[type=search]");
    if (field) {
      event.preventDefault();
      field.focus();
      field.select();
    }
  }
});

document.addEventListener("click", (event) => {
  const does = event.target.closest?.("[data-do]")?.dataset.do;
  if (does === "theme") toggleTheme();
  else if (does === "zone") changeZone();
  else if (does === "help") help();
  else if (does === "search") document.dispatchEvent(new CustomEvent("mailrace-search"));
  else if (does === "menu") document.body.classList.toggle("menu");
  else if (does === "logout") document.querySelector("form.logout").submit();
  else if (event.target.matches?.("dialog.keys")) event.target.close();
});

addEventListener("load", () => setTimeout(widgets));
