// What the reader does; and the view that the address asks for, once everything stands ready.
const { form, show, state, sortBy, readAddress, writeAddress, anchorOf, reveal, ready, copier, theme } = globalThis.nibench;

function navigate() {
  const target = anchorOf();
  if (target) state.open = null;
  else readAddress();
  show();
  if (target) reveal(target);
}

document.getElementById("board").tHead.addEventListener("click", (event) => {
  const key = event.target.closest("button") && event.target.closest("th").dataset.key;
  if (!key) return;
  sortBy(key);
  writeAddress();
  show();
});
form.addEventListener("input", (event) => {
  writeAddress(event.target.name === "find");
  show();
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(() => {
  writeAddress();
  show();
}));
window.addEventListener("popstate", navigate);

document.getElementById("link").append(copier("Copy link", () => location.href));
document.getElementById("details-link").append(copier("Copy link", () => location.href));
const toggle = document.getElementById("theme");
const name = () => { toggle.textContent = theme.isDark ? "Light" : "Dark"; };
toggle.addEventListener("click", () => theme.choose(!theme.isDark));
document.addEventListener("nibench:theme", name);
name();
toggle.hidden = false;

await ready;
navigate();
document.documentElement.dataset.ready = "yes";
