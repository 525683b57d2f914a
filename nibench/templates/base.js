// What the scripts of the page share. They set text, never HTML, and speak to each other through this object alone.
const unpack = async (id) => {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
};

const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

// numbers as the HTML writes them
const number = (value) => {
  if (value === null || value === undefined) return "–";
  const text = value.toFixed(2).replace(/^(-?)0\./, "$1.");
  return text === "-.00" ? ".00" : text.replace("-", "−");
};
const seconds = (value) => {
  if (value === null || value === undefined) return "–";
  if (value < 0.005) return "<.01";
  return value < 1 ? number(value) : value.toFixed(value < 10 ? 1 : 0);
};
const count = (value) => {
  if (value === null || value === undefined) return "–";
  return value >= 1000 ? `${(value / 1000).toFixed(value >= 1e5 ? 0 : 1)}k` : value.toFixed(0);
};
const between = (low, high) => (low === null || low === undefined ? "" : ` [${number(low)}, ${number(high)}]`);

// an estimate is a list; these are the positions in it
const names = ["VALUE", "LOW", "HIGH", "BESIDE", "COVERED", "OF", "FAILED", "BAND", "FIRST", "MARK", "OWN", "GAIN", "RANKS", "ERRORS"];
const at = Object.fromEntries(names.map((name, i) => [name, i]));

// a button that puts a text on the clipboard and says so
const copier = (label, text) => {
  const button = element("button", { type: "button", class: "copy" }, label);
  button.addEventListener("click", () => {
    const done = () => { button.textContent = "copied"; };
    navigator.clipboard?.writeText(typeof text === "function" ? text() : text).then(done, () => {});
  });
  return button;
};

// light and dark: the browser's choice until the reader makes one
const dark = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules])
  .filter((rule) => rule.media?.mediaText.includes("prefers-color-scheme"));
const asked = window.matchMedia("(prefers-color-scheme: dark)");
const kept = { // where the browser lets a page keep anything
  get: () => { try { return localStorage.getItem("nibench-theme"); } catch { return null; } },
  set: (name) => { try { localStorage.setItem("nibench-theme", name); } catch { /* for this visit only */ } },
};
const theme = {
  chosen: null,
  get isDark() { return this.chosen === null ? asked.matches : this.chosen; },
  choose(isDark) {
    this.chosen = isDark;
    for (const rule of dark) rule.media.mediaText = isDark ? "all" : "not all";
    document.documentElement.style.colorScheme = isDark ? "dark" : "light";
    kept.set(isDark ? "dark" : "light");
    document.dispatchEvent(new Event("nibench:theme"));
  },
};
if (kept.get()) theme.choose(kept.get() === "dark");
asked.addEventListener("change", () => document.dispatchEvent(new Event("nibench:theme")));

// a figure tells its numbers to a finger, too: a tap moves no pointer, so what it shows would be gone with it
const tappable = (drawn) => {
  const tell = drawn.view.tooltip();
  drawn.view.addEventListener("click", (event, item) => tell.call(drawn.view, null, event, item, item?.tooltip));
  return drawn;
};

globalThis.nibench = {
  data: JSON.parse(document.getElementById("data").textContent),
  packed: null, // {views, cells} once unpacked
  ready: unpack("packed").then((found) => { globalThis.nibench.packed = found; }),
  element, number, seconds, count, between, copier, tappable, theme, at,
  colour: (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim(),
};
