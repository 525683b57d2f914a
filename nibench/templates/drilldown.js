// From a method to its tasks, models and first neurons, within the chosen places; and the commands that show each again.
const { data, state, choice, placesOf, chosen, viewOf, writeAddress, element, number, seconds, copier, stackOf, at } =
  globalThis.nibench;
const dialog = document.getElementById("details");
const shownAxes = data.axes.filter((axis) => axis.headline);
const STATUS = { not_applicable: "not applicable", failed: "failed" };
const spaced = (role) => role.replaceAll("_", " ");

// one cell's score: on the common scale with its interval, else the plain value with its unit
function scoreCell(score) {
  if (!score) return element("td", {}, "–");
  const [scaled, low, high, value, unit] = score;
  if (scaled === null) {
    return element("td", { class: "na" }, number(value), element("span", { class: "range" }, unit, element("br"), "no scale"));
  }
  const words = low === null ? "" : `${number(low)} to ${number(high)}`;
  return element("td", {}, element("span", { class: "value" }, number(scaled)), element("span", { class: "range" }, words));
}

// which roles fill the first n and the first ten neurons
function anatomyOf(anatomy) {
  return Object.entries(anatomy).flatMap(([k, roles]) => {
    const parts = Object.entries(roles);
    const words = parts.map(([role, n]) => `${spaced(role)} ${n.toFixed(n < 9.95 && n % 1 ? 1 : 0)}`);
    return [
      element("p", { class: "range" }, `first ${k}: ${words.join(", ")}`),
      ...stackOf(parts.map(([role, n]) => [role, n / k])),
    ];
  });
}

const command = (text) => element("span", { class: "command" }, copier("copy", text), element("code", {}, text));

// one word of a shell's command, whatever a record calls its neurons
const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`);

function aboutText(cell) {
  const { inspect } = data.places[cell.place];
  if (!inspect) return "Sampled activations: there is no text behind these neurons.";
  const yours = inspect.includes(" --data ") ? " in text of yours" : "";
  return `Records keep no text. To see where a neuron is most active${yours}, copy its command, such as `;
}

function neuronsOf(cell) {
  const shownBy = data.places[cell.place].inspect;
  const inspect = (name) => shownBy.replace("NEURON", () => quoted(name));
  const items = cell.top.map((name) => {
    if (!shownBy) return element("li", {}, element("code", {}, name));
    const button = copier("copy inspect", inspect(name));
    button.title = `copies: ${inspect(name)}`;
    return element("li", {}, element("code", {}, name), " ", button);
  });
  const parts = [];
  if (items.length) {
    const lead = element("p", {}, aboutText(cell));
    if (shownBy) lead.append(element("code", {}, inspect(cell.top[0])));
    parts.push(element("h4", {}, "First neurons"), element("ol", { class: "neurons" }, ...items), lead);
  }
  if (Object.keys(cell.anatomy).length) parts.push(element("h4", {}, "Their roles"), ...anatomyOf(cell.anatomy));
  if (cell.flags.length) parts.push(element("h4", {}, "Flags"), element("p", {}, cell.flags.join("; ")));
  parts.push(element("h4", {}, "This cell again"), command(cell.command));
  return parts;
}

function rowsOf(cell, number_) {
  const place = data.places[cell.place];
  const name = [place.model || "no model", place.detail, cell.seed ? `seed ${cell.seed}` : ""].filter(Boolean).join(", ");
  const id = `cell-${number_}`;
  const isOpen = state.place === name && state.task === place.task;
  const button = element("button", { type: "button", class: "open", "aria-expanded": isOpen, "aria-controls": id }, name);
  const words = STATUS[cell.status];
  const values = words
    ? [element("td", { colspan: shownAxes.length, class: cell.status === "failed" ? "failed" : "na" },
        `${words}${cell.reason ? `: ${cell.reason}` : ""}`)]
    : shownAxes.map((axis) => scoreCell(cell.scores[axis.id]));
  const row = element("tr", {},
    element("th", { scope: "row" }, button, element("span", { class: "range" }, place.tier)),
    ...values, element("td", {}, seconds(cell.seconds)));
  const inner = element("td", { colspan: shownAxes.length + 2 });
  const below = element("tr", { id, class: "neurons-of" }, inner);
  const set = (open) => {
    button.setAttribute("aria-expanded", open);
    below.hidden = !open;
    if (open && !inner.childNodes.length) inner.append(...neuronsOf(cell));
  };
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") !== "true";
    set(open);
    [state.task, state.place] = [place.task, open ? name : null];
    writeAddress();
  });
  set(isOpen);
  return [row, below];
}

// the values of a task, all its models together, where the page has them
function taskWords(method, task) {
  const found = viewOf(placesOf({ ...choice(), task }));
  return shownAxes.flatMap((axis) => {
    const value = found?.boards[axis.id]?.[method]?.[at.VALUE];
    return value === undefined ? [] : [`${axis.title.toLowerCase()} ${number(value)}`];
  }).join(" · ");
}

function taskOf(method, task, cells, first) {
  const models = new Set(cells.map((cell) => cell.place)).size;
  const none = cells.every((cell) => cell.status === "not_applicable") ? STATUS.not_applicable : "";
  const words = [data.places[cells[0].place].concept, models > 1 ? `${models} models` : "", none || taskWords(method, task)];
  const summary = element("summary", {}, task, element("span", { class: "range" }, words.filter(Boolean).join(" · ")));
  const head = ["Model", ...shownAxes.map((axis) => axis.title), "Seconds"];
  const table = element("table", {},
    element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
    element("tbody", {}, ...cells.flatMap((cell, i) => rowsOf(cell, first + i))));
  const link = element("a", { href: `#task-${task.replace(/\s+/g, "_")}` }, "what this task is");
  const made = element("details", { "data-task": task }, summary, element("p", {}, link),
    element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": task }, table));
  made.open = state.task === task;
  summary.addEventListener("click", () => {
    [state.task, state.place] = [made.open ? null : task, null]; // as it will be
    writeAddress();
  });
  return made;
}

// each board's standard error, what varies under it, and the part that the seeds make
function errorsOf(method) {
  const fine = (value) => value.toFixed(3).replace(/^0/, "");
  return data.axes.flatMap((axis) => {
    const [level, se, seeds] = data.view.boards[axis.id]?.[method]?.[at.ERRORS] ?? [];
    return level === undefined ? [] : [`${axis.title} ${fine(se)} (${level}${seeds ? `, seeds ${fine(seeds)}` : ""})`];
  }).join(" · ");
}

function fill(method) {
  document.getElementById("details-title").textContent = method;
  document.getElementById("details-summary").textContent = data.methods[method].summary;
  const card = document.getElementById(`method-${method.replace(/\s+/g, "_")}`)?.querySelector("dl").cloneNode(true);
  const errors = errorsOf(method);
  if (errors) card?.append(element("dt", {}, "standard errors"), element("dd", {}, errors));
  document.getElementById("details-card").replaceChildren(...(card?.childNodes ?? []));
  const places = new Set(chosen());
  const all = globalThis.nibench.packed.cells[method];
  const cells = all.filter((cell) => places.has(cell.place));
  const note = document.getElementById("details-note");
  note.textContent = cells.length < all.length ? `${cells.length} of ${all.length} cells: those of the filters.` : "";
  const tasks = Map.groupBy(cells, (cell) => data.places[cell.place].task);
  let first = 0;
  const absent = ([, of]) => of.every((cell) => cell.status === "not_applicable");
  const inOrder = [...tasks].sort((a, b) => absent(a) - absent(b)); // what applies comes first
  const parts = inOrder.map(([task, of]) => {
    const made = taskOf(method, task, of, first);
    first += of.length;
    return made;
  });
  if (parts.length === 1) parts[0].open = true;
  document.getElementById("details-cells").replaceChildren(...parts);
}

function show() {
  if (!state.open) {
    dialog.close();
    return;
  }
  fill(state.open);
  if (!dialog.open) dialog.showModal();
  dialog.querySelector('[aria-expanded="true"]')?.scrollIntoView({ block: "center" });
}

dialog.addEventListener("close", () => {
  if (!state.open) return; // the address has closed it
  state.open = state.task = state.place = null;
  writeAddress();
});
document.getElementById("board").addEventListener("click", (event) => {
  const button = event.target.closest("tbody button.open");
  if (!button) return;
  [state.open, state.task, state.place] = [button.closest("tr").dataset.method, null, null];
  writeAddress();
  show();
});
document.addEventListener("nibench:shown", show);
