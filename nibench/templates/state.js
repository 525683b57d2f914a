// What the reader has chosen: filters, order, and what is open. The address names it, so that a link opens the same.
const { data } = globalThis.nibench;
const form = document.getElementById("filters");
const axes = new Set(data.axes.map((axis) => axis.id));
const columns = [...document.getElementById("board").tHead.rows[0].cells].map((heading) => heading.dataset.key);
const PLACES = ["tier", "concept", "task", "model"]; // these choose what is measured; the others choose methods
const METHODS = ["claims", "family", "scope", "supervision", "human", "causation", "scalability"];
const FIELDS = ["find", ...PLACES, ...METHODS, "runs"];

const fieldsOfFigures = () => [...document.querySelectorAll("[data-figure] .controls select")].map((field) =>
  [`${field.closest("[data-figure]").dataset.figure}.${field.name}`, field]);

const state = {
  sort: data.order,
  board: data.order, // whose bands are shown
  descending: true,
  curves: null, // methods whose curves the reader chose
  open: null, // a method, then one of its tasks, then one of the places there
  task: null,
  place: null,
};
const wanted = (name) => form.elements[name].value;

// the positions of the places that a choice leaves
function placesOf(choice) {
  const asked = Object.entries(choice).filter(([, value]) => value);
  return data.places.flatMap((place, i) => (asked.every(([name, value]) => place[name] === value) ? [i] : []));
}
const choice = () => Object.fromEntries(PLACES.map((name) => [name, wanted(name)]));
const chosen = () => placesOf(choice());
const viewOf = (places) =>
  places.length === data.places.length ? data.view : globalThis.nibench.packed?.views[places.join(",")];

let view = data.view; // until a choice is made
const estimate = (method, axis) => view?.boards[axis]?.[method];

const plain = (name) => name.trim().toLowerCase().replaceAll(/[\s_-]+/g, "_");

// what orders the rows: what was asked for, or, where that has no value here, the first board that has
const filled = (axis) => Object.keys(view?.boards[axis] ?? {}).length > 0;
const withValues = (key) => (!axes.has(key) || filled(key) ? key : (data.axes.find((axis) => filled(axis.id))?.id ?? key));
const sorting = () => withValues(state.sort);
const banding = () => withValues(state.board);

function matches(method) {
  const card = data.methods[method];
  if (!plain(method).includes(plain(wanted("find")))) return false;
  if (METHODS.some((name) => wanted(name) && card[name] !== wanted(name))) return false;
  const runs = wanted("runs");
  if (runs === "no gradients") return card.runs !== "gradients";
  return !runs || card.runs === runs || (runs === "model" && card.runs === "gradients");
}

// what would leave nothing cannot be chosen
function offer() {
  for (const name of PLACES) {
    const others = { ...choice(), [name]: "" };
    const there = new Set(placesOf(others).map((i) => data.places[i][name]));
    for (const option of form.elements[name].options) {
      option.disabled = option.value !== "" && option.value !== wanted(name) && !there.has(option.value);
    }
  }
  const more = document.getElementById("more");
  const set = [...more.querySelectorAll("select")].filter((field) => field.value).length;
  document.getElementById("more-set").textContent = set ? ` (${set} set)` : "";
}

// everything that shows the choice listens to this
function show() {
  view = viewOf(chosen());
  offer();
  document.dispatchEvent(new Event("nibench:shown"));
}

// the address: what differs from the page as it opens

function hash() {
  const named = new URLSearchParams();
  for (const name of FIELDS) if (wanted(name)) named.set(name, wanted(name));
  if (form.elements.all.checked) named.set("all", "1");
  if (state.sort !== data.order || !state.descending) named.set("sort", `${state.descending ? "-" : ""}${state.sort}`);
  if (state.board !== data.order) named.set("board", state.board);
  for (const [name, field] of fieldsOfFigures()) if (field.value !== opened[name]) named.set(name, field.value);
  if (state.curves) named.set("curves", state.curves.join(","));
  if (state.open) named.set("open", state.open);
  if (state.open && state.task) named.set("in", state.task);
  if (state.open && state.place) named.set("at", state.place);
  return named.toString();
}

// what the figures show as the page opens, once their fields are filled
const opened = {};
const rememberFigures = () => Object.assign(opened, Object.fromEntries(fieldsOfFigures().map(([name, field]) => [name, field.value])));

// a step of its own in the history, but for letters typed one after the other
let typed = false;
function writeAddress(typing = false) {
  const [now, named] = [location.hash.slice(1), hash()];
  if (now === named) return;
  const target = named ? `#${named}` : location.pathname + location.search;
  history[typing && typed ? "replaceState" : "pushState"](null, "", target);
  typed = typing;
}

// an anchor (a card, a section) is no choice: the address names an element, and it is shown
function anchorOf() {
  const name = location.hash.slice(1);
  try {
    return document.getElementById(decodeURIComponent(name));
  } catch { // no escape that means something
    return document.getElementById(name);
  }
}
function reveal(target) {
  for (let around = target; around; around = around.parentElement) if (around.tagName === "DETAILS") around.open = true;
  target.scrollIntoView();
}

function readAddress() {
  typed = false;
  const named = new URLSearchParams(location.hash.slice(1));
  for (const name of FIELDS) {
    const field = form.elements[name];
    field.value = named.get(name) ?? "";
    if (field.selectedIndex === -1) field.value = ""; // an option that this page does not have
  }
  form.elements.all.checked = named.has("all");
  for (const [name, field] of fieldsOfFigures()) {
    field.value = named.get(name) ?? opened[name];
    if (field.selectedIndex === -1) field.value = opened[name];
    field.dispatchEvent(new Event("nibench:set")); // what can be chosen next may hang on it
  }
  state.curves = named.get("curves")?.split(",") ?? null;
  const sort = named.get("sort") ?? `-${data.order}`;
  const key = sort.replace(/^-/, "");
  state.descending = sort.startsWith("-");
  state.sort = columns.includes(key) ? key : data.order;
  state.board = axes.has(named.get("board")) ? named.get("board") : axes.has(state.sort) ? state.sort : data.order;
  state.open = Object.hasOwn(data.methods, named.get("open") ?? "") ? named.get("open") : null;
  state.task = named.get("in");
  state.place = named.get("at");
}

function sortBy(key) {
  const rising = ["method", "band", "decoys", "natural", "seconds", "passes"].includes(key);
  state.descending = state.sort === key ? !state.descending : !rising;
  state.sort = key;
  if (axes.has(key)) state.board = key;
}

Object.assign(globalThis.nibench, {
  state, form, axes, estimate, sorting, banding, matches, show, sortBy, readAddress, writeAddress, anchorOf, reveal, placesOf, choice, chosen, viewOf,
  rememberFigures, view: () => view,
  methods: () => [...document.querySelectorAll("#board tbody tr:not([hidden])")].map((row) => row.dataset.method),
});
