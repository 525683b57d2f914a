// The table: fills its cells with the chosen view, and orders its rows.
const { data, state, form, axes, estimate, sorting, banding, matches, view, element, number, seconds, count, between, at } = globalThis.nibench;
const { VALUE, LOW, HIGH, BESIDE, COVERED, OF, FAILED, BAND, FIRST, MARK, OWN, GAIN, RANKS } = at;
const table = document.getElementById("board");
const body = table.tBodies[0];
const marks = { "shares the estimand": "=", "home advantage": "^", "own claim": "•" };
const roleColours = {
  used: "--good", signal: "--good", distributed: "--good", relay: "--good", shared: "--good", backup: "--good",
  saturated: "--good", conjunctive: "--good", sign_mixed: "--good", copy: "--good",
  decoy: "--bad", correlate: "--bad", natural_decoy: "--half", background: "--rest",
};
const ranks = ([low, high]) => (low === high ? `rank ${low}` : `rank ${low} to ${high}`);

const position = (value) => `${Math.min(100, Math.max(0, value * 100))}%`;

function fillEstimate(cell, found) {
  cell.replaceChildren();
  cell.classList.toggle("partial", Boolean(found && found[COVERED] < found[OF]));
  cell.classList.toggle("unclaimed", found?.[OWN] === false);
  if (!found) {
    cell.append(element("span", { class: "none" }, "–"));
    return;
  }
  cell.append(element("span", { class: "value" }, number(found[VALUE])));
  if (found[MARK]) {
    cell.append(element("abbr", { class: "mark", title: found[MARK] }, marks[found[MARK]]));
  }
  const track = element("span", { class: "track", "aria-hidden": "true" });
  if (found[LOW] !== null) {
    const line = element("i");
    const [from, to] = [found[LOW], found[HIGH]].map((x) => Math.min(1, Math.max(0, x)));
    line.style.left = position(from);
    line.style.width = position(to - from);
    track.append(line);
  }
  const dot = element("b");
  dot.style.left = position(found[VALUE]);
  track.append(dot);
  const words = found[LOW] === null ? [] : [`${number(found[LOW])} to ${number(found[HIGH])}`];
  const [gain, least, most] = found[GAIN] ?? [null];
  const gained = `gain ${gain > 0 ? "+" : ""}${number(gain)}`;
  if (gain !== null) words.push(gained);
  const details = gain === null ? [] : [`${gained}${between(least, most)}`];
  details.push(...Object.entries(found[BESIDE]).map(([name, [value, low, high]]) => `${name} ${number(value)}${between(low, high)}`));
  if (found[COVERED] < found[OF]) words.push(`${found[COVERED]} of ${found[OF]} cells`);
  if (found[FAILED]) words.push(`${found[FAILED]} failed`);
  cell.append(track, ...words.map((word) => element("span", { class: "range" }, word)),
    ...details.map((word) => element("span", { class: "range detail" }, word)));
}

// shares of the first neurons by role: a bar, and the same in words for who does not see it
function stackOf(roles) {
  const percent = (share) => Math.round(share * 100);
  const ends = (low, high) => (low === null ? "" : ` (${percent(low)} to ${percent(high)})`);
  const words = roles.map(([role, share, low = null, high = null]) =>
    `${role.replaceAll("_", " ")} ${percent(share)} %${ends(low, high)}`).join(", ");
  const stack = element("span", { class: "stack", title: words, "aria-hidden": "true" });
  for (const [role, share] of roles) {
    const part = element("i");
    part.style.width = `${share * 100}%`;
    part.style.background = `var(${roleColours[role] ?? "--other"})`;
    stack.append(part);
  }
  return [stack, element("span", { class: "hidden" }, words)];
}

function fillAnatomy(cell, anatomy) {
  const roles = Object.entries(anatomy).map(([role, ends]) => [role, ...ends]);
  cell.replaceChildren(...(roles.length ? stackOf(roles) : [element("span", { class: "none" }, "–")]));
}

// a number that orders nothing, with its interval where there is one
function fillFlag(cell, found) {
  const [value, low, high] = found ?? [null, null, null];
  cell.replaceChildren(number(value));
  if (low !== null) cell.append(element("span", { class: "range" }, `${number(low)} to ${number(high)}`));
}

function fill(row) {
  const method = row.dataset.method;
  const beside = view()?.beside[method] ?? { anatomy: {} };
  const lead = estimate(method, banding());
  for (const cell of row.cells) {
    const key = cell.dataset.key;
    if (axes.has(key)) fillEstimate(cell, estimate(method, key));
    else if (key === "band") cell.textContent = lead?.[BAND] ?? "–";
    else if (key === "first") {
      cell.replaceChildren(number(lead?.[FIRST]));
      if (lead?.[RANKS]) cell.append(element("span", { class: "range" }, ranks(lead[RANKS])));
    }
    else if (key === "anatomy") fillAnatomy(cell, beside.anatomy);
    else if (key === "passes") cell.textContent = count(beside.passes);
    else if (key === "seconds") cell.textContent = seconds(beside.seconds);
    else if (key) fillFlag(cell, beside[key]);
    cell.toggleAttribute("data-sorted", key === sorting());
  }
}

// [complete rows first, value]: what a column sorts by; null stays last in both directions
function sortValue(method, key) {
  const beside = view()?.beside[method] ?? {};
  if (key === "method") return [0, method];
  if (axes.has(key)) {
    const found = estimate(method, key);
    return found ? [found[COVERED] < found[OF] ? 1 : 0, found[VALUE]] : [2, null];
  }
  if (key === "band" || key === "first") {
    const found = estimate(method, banding())?.[key === "band" ? BAND : FIRST];
    return [found === null || found === undefined ? 2 : 0, found];
  }
  const plain = Array.isArray(beside[key]) ? beside[key][0] : beside[key];
  const value = key === "anatomy" ? ((beside.anatomy?.used ?? beside.anatomy?.signal)?.[0] ?? null) : plain;
  return [value === null || value === undefined ? 2 : 0, value];
}

function sortRows() {
  const keyed = [...body.rows].map((row) => [sortValue(row.dataset.method, sorting()), row]);
  keyed.sort(([a, first], [b, second]) => {
    if (a[0] !== b[0]) return a[0] - b[0];
    const order = typeof a[1] === "string" ? a[1].localeCompare(b[1]) : (a[1] ?? 0) - (b[1] ?? 0);
    return (state.descending ? -order : order) || first.dataset.method.localeCompare(second.dataset.method);
  });
  body.append(...keyed.map(([, row]) => row));
  for (const heading of table.tHead.rows[0].cells) {
    if (heading.dataset.key === sorting()) {
      heading.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    } else heading.removeAttribute("aria-sort");
  }
  let last;
  for (const row of body.rows) {
    if (row.hidden) continue;
    const band = axes.has(sorting()) ? estimate(row.dataset.method, banding())?.[BAND] : 0;
    row.classList.toggle("next-band", last !== undefined && band !== last);
    last = band;
  }
}

function show() {
  const all = [...body.rows];
  for (const row of all) {
    row.hidden = !matches(row.dataset.method);
    fill(row);
  }
  table.classList.toggle("all", form.elements.all.checked);
  sortRows();
  const shown = all.filter((row) => !row.hidden).map((row) => row.dataset.method);
  const blank = shown.filter((method) => data.axes.every((axis) => !estimate(method, axis.id))).length;
  const without = view() ? blank && `${blank} without a value here` : "no cells in this selection";
  document.getElementById("status").textContent = [`${shown.length} of ${all.length} methods`, without].filter(Boolean).join("; ");
  const own = axes.has(sorting()) ? "" : data.axes.find((axis) => axis.id === banding())?.title;
  for (const span of document.querySelectorAll("[data-board-of]")) span.textContent = own ? `of ${own}` : "";
  for (const cell of document.querySelectorAll("[data-oracle]")) {
    fillFlag(cell, view()?.oracle[cell.dataset.oracle]);
  }
  for (const span of document.querySelectorAll("[data-words]")) {
    span.textContent = view()?.words[span.dataset.words] ?? "no cells in this selection";
  }
}

function legend() {
  const roles = new Set(Object.values(data.view.beside).flatMap((beside) => Object.keys(beside.anatomy)));
  const byColour = new Map();
  for (const role of roles) {
    const name = roleColours[role] ?? "--other";
    byColour.set(name, [...(byColour.get(name) ?? []), role]);
  }
  const line = document.getElementById("roles");
  for (const [name, same] of byColour) {
    const swatch = element("span", { class: "swatch" });
    swatch.style.background = `var(${name})`;
    line.append(swatch, same.map((role) => role.replaceAll("_", " ")).join(", "));
  }
}


document.addEventListener("nibench:shown", show);
legend();
Object.assign(globalThis.nibench, { stackOf });
