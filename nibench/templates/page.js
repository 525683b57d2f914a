"use strict";
// Sorts, filters and redraws the table from the JSON of the page; sets text only, never HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("board");
  const body = table.tBodies[0];
  const form = document.getElementById("filters");
  const axes = new Set(data.axes.map((axis) => axis.id));
  const [VALUE, LOW, HIGH, BESIDE, COVERED, OF, FAILED, BAND, FIRST, MARK, OWN, GAIN, RANKS, ERRORS] = Array(14).keys();
  const marks = { "shares the estimand": "=", "home advantage": "^", "own claim": "•" };
  const roleColours = {
    used: "--good", signal: "--good", distributed: "--good", relay: "--good", shared: "--good", backup: "--good",
    saturated: "--good", conjunctive: "--good", sign_mixed: "--good", copy: "--good",
    decoy: "--bad", correlate: "--bad", natural_decoy: "--half", background: "--rest",
  };
  const state = { sort: data.order, board: data.order, descending: true }; // board: whose bands are shown

  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
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
  const ranks = ([low, high]) => (low === high ? `rank ${low}` : `rank ${low} to ${high}`);
  const view = () => data.views[`${form.elements.task.value}\t${form.elements.model.value}`];
  const estimate = (method, axis) => view()?.boards[axis]?.[method];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // the table

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
    const words = [];
    const range = found[LOW] === null ? [] : [`${number(found[LOW])} to ${number(found[HIGH])}`];
    const [gain, least, most] = found[GAIN] ?? [null];
    if (gain !== null) range.push(`${gain > 0 ? "+" : ""}${number(gain)}${between(least, most)}`);
    if (range.length) words.push(range.join(" · "));
    const beside = Object.entries(found[BESIDE]).map(([name, [value, low, high]]) => `${name} ${number(value)}${between(low, high)}`);
    const many = Object.values(found[BESIDE]).some(([, low]) => low !== null);
    if (beside.length) words.push(...(many ? beside : [beside.join(" · ")]));
    if (found[COVERED] < found[OF]) words.push(`${found[COVERED]} of ${found[OF]} cells`);
    if (found[FAILED]) words.push(`${found[FAILED]} failed`);
    cell.append(track, ...words.map((word) => element("span", { class: "range" }, word)));
  }

  // shares of the first neurons by role: a bar, and the same in words for who does not see it
  function stackOf(roles) {
    const words = roles.map(([role, share]) => `${role.replaceAll("_", " ")} ${Math.round(share * 100)} %`).join(", ");
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
    const roles = Object.entries(anatomy);
    cell.replaceChildren(...(roles.length ? stackOf(roles) : [element("span", { class: "none" }, "–")]));
  }

  // which roles fill the first n and the first ten neurons of one cell
  function cellAnatomy(anatomy) {
    return Object.entries(anatomy).flatMap(([k, roles]) => {
      const parts = Object.entries(roles);
      const words = parts.map(([role, n]) => `${role.replaceAll("_", " ")} ${n.toFixed(n < 9.95 && n % 1 ? 1 : 0)}`);
      return [
        element("span", { class: "range" }, `first ${k}: ${words.join(", ")}`),
        ...stackOf(parts.map(([role, n]) => [role, n / k])),
      ];
    });
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
    const lead = estimate(method, state.board);
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
      cell.toggleAttribute("data-sorted", key === state.sort);
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
      const found = estimate(method, state.board)?.[key === "band" ? BAND : FIRST];
      return [found === null || found === undefined ? 2 : 0, found];
    }
    const plain = Array.isArray(beside[key]) ? beside[key][0] : beside[key];
    const value = key === "anatomy" ? (beside.anatomy?.used ?? beside.anatomy?.signal ?? null) : plain;
    return [value === null || value === undefined ? 2 : 0, value];
  }

  function sortRows() {
    const keyed = [...body.rows].map((row) => [sortValue(row.dataset.method, state.sort), row]);
    keyed.sort(([a, first], [b, second]) => {
      if (a[0] !== b[0]) return a[0] - b[0];
      const order = typeof a[1] === "string" ? a[1].localeCompare(b[1]) : (a[1] ?? 0) - (b[1] ?? 0);
      return (state.descending ? -order : order) || first.dataset.method.localeCompare(second.dataset.method);
    });
    body.append(...keyed.map(([, row]) => row));
    for (const heading of table.tHead.rows[0].cells) {
      if (heading.dataset.key === state.sort) {
        heading.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      } else heading.removeAttribute("aria-sort");
    }
    let last;
    for (const row of body.rows) {
      if (row.hidden) continue;
      const band = axes.has(state.sort) ? estimate(row.dataset.method, state.board)?.[BAND] : 0;
      row.classList.toggle("next-band", last !== undefined && band !== last);
      last = band;
    }
  }

  function matches(method) {
    const card = data.methods[method];
    const wanted = form.elements;
    if (!method.toLowerCase().includes(wanted.find.value.trim().toLowerCase())) return false;
    if (wanted.claims.value && card.claims !== wanted.claims.value) return false;
    if (wanted.family.value && card.family !== wanted.family.value) return false;
    const runs = wanted.runs.value;
    return !runs || card.runs === runs || (runs === "model" && card.runs === "gradients");
  }

  function show() {
    let shown = 0;
    for (const row of body.rows) {
      row.hidden = !matches(row.dataset.method);
      shown += row.hidden ? 0 : 1;
      fill(row);
    }
    table.classList.toggle("all", form.elements.all.checked);
    sortRows();
    const all = Object.keys(data.methods).length;
    const empty = view() ? "" : "; no cells for this task and model";
    document.getElementById("status").textContent = `${shown} of ${all} methods${empty}`;
    for (const cell of document.querySelectorAll("[data-oracle]")) {
      cell.textContent = number(view()?.oracle[cell.dataset.oracle]);
    }
    for (const span of document.querySelectorAll("[data-words]")) {
      span.textContent = view()?.words[span.dataset.words] ?? "no cells in this selection";
    }
    draw();
    drawWins();
  }

  function legend() {
    const roles = new Set(Object.values(view()?.beside ?? {}).flatMap((beside) => Object.keys(beside.anatomy)));
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

  // the plane

  function pointsOfPlane() {
    return [...body.rows].filter((row) => !row.hidden).flatMap((row) => {
      const method = row.dataset.method;
      const [x, y] = [estimate(method, "encodes"), estimate(method, "carries")];
      if (!x || !y) return [];
      const text = (e) => number(e[VALUE]) + (e[LOW] === null ? "" : ` (${number(e[LOW])} to ${number(e[HIGH])})`);
      return [{
        method, family: data.methods[method].family, claims: data.methods[method].claims,
        encodes: x[VALUE], encodes_low: x[LOW] ?? x[VALUE], encodes_high: x[HIGH] ?? x[VALUE], encodes_text: text(x),
        carries: y[VALUE], carries_low: y[LOW] ?? y[VALUE], carries_high: y[HIGH] ?? y[VALUE], carries_text: text(y),
        complete: x[COVERED] === x[OF] && y[COVERED] === y[OF],
        covers: `${x[COVERED]} of ${x[OF]} and ${y[COVERED]} of ${y[OF]} cells`,
      }];
    });
  }

  // a value far below chance stands at the edge of the plane; its tooltip says which it is
  const FLOOR = -0.25;
  const edged = (point) => Object.fromEntries(
    Object.entries(point).map(([key, value]) => [key, typeof value === "number" ? Math.max(FLOOR, value) : value]));

  function domain(values) {
    return [Math.min(-0.05, ...values) - 0.03, Math.max(1, ...values) + 0.03];
  }

  // Greedy placing, from left to right: around each point the free spot that costs least. A spot costs its
  // distance, more if it covers an interval, most if another point is nearer to it; where nearness does not
  // tell whose label it is, a line does. A label without a free spot is left out.
  function placeLabels(points, width, height, [x0, x1], [y0, y1]) {
    const toX = (x) => ((x - x0) / (x1 - x0)) * width;
    const toY = (y) => height - ((y - y0) / (y1 - y0)) * height;
    const back = ([x, y]) => [x0 + (x / width) * (x1 - x0), y0 + ((height - y) / height) * (y1 - y0)];
    const hits = (a, others) => others.some((b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]);
    const taken = points.map((p) => [toX(p.encodes) - 5, toY(p.carries) - 5, toX(p.encodes) + 5, toY(p.carries) + 5]);
    const lines = points.flatMap((p) => [
      [toX(p.encodes_low), toY(p.carries) - 2, toX(p.encodes_high), toY(p.carries) + 2],
      [toX(p.encodes) - 2, toY(p.carries_high), toX(p.encodes) + 2, toY(p.carries_low)],
    ]);
    lines.push([toX(0) - 1, 0, toX(0) + 1, height], [0, toY(0) - 1, width, toY(0) + 1]);
    const labels = [];
    for (const point of [...points].sort((a, b) => a.encodes - b.encodes || b.carries - a.carries)) {
      const [px, py, half] = [toX(point.encodes), toY(point.carries), point.method.length * 3.15 + 2];
      const others = points.filter((p) => p !== point).map((p) => [toX(p.encodes), toY(p.carries)]);
      const box = ([x, y], tall = 7) => [x - half, y - tall, x + half, y + tall];
      const gap = ([x, y], [a, b]) => Math.hypot(Math.max(Math.abs(a - x) - half, 0), Math.max(Math.abs(b - y) - 6, 0));
      const spots = [];
      for (const away of [12, 24, 38, 54, 72, 92, 115]) {
        for (const angle of [0, 180, 90, 270, 45, 135, 225, 315, 20, 160, 200, 340]) {
          const [dx, dy] = [Math.cos((angle * Math.PI) / 180), -Math.sin((angle * Math.PI) / 180)];
          const spot = [px + dx * away + Math.sign(Math.round(dx * 4)) * half, py + dy * away];
          const inside = spot[0] > half && spot[0] + half < width && spot[1] > 8 && spot[1] < height - 8;
          if (!inside || hits(box(spot), taken)) continue;
          const own = gap(spot, [px, py]);
          const nearest = Math.min(Infinity, ...others.map((other) => gap(spot, other)));
          const doubt = nearest < own - 0.5 ? 50 : nearest < own + 1.5 ? 12 : 0;
          spots.push({ spot, doubt, cost: away + doubt + (hits(box(spot, 6), lines) ? 14 : 0) });
        }
      }
      if (!spots.length) continue;
      const { spot: [x, y], doubt } = spots.reduce((a, b) => (b.cost < a.cost ? b : a));
      taken.push(box([x, y]));
      const edge = [Math.min(Math.max(px, x - half), x + half), Math.min(Math.max(py, y - 6), y + 6)];
      const led = doubt > 0 || Math.hypot(edge[0] - px, edge[1] - py) > 16;
      const [centre, from, to] = [back([x, y]), back([px, py]), back(led ? edge : [px, py])];
      labels.push({ method: point.method, x: centre[0], y: centre[1], x0: from[0], y0: from[1], x1: to[0], y1: to[1] });
    }
    return labels;
  }

  let drawn;
  function draw() {
    const holder = document.getElementById("plane");
    const points = pointsOfPlane().map(edged);
    const note = document.getElementById("plane-note");
    const spec = structuredClone(data.plane);
    if (!points.length) {
      drawn?.finalize();
      holder.textContent = "No method here has both a value on encodes and one on carries.";
      holder.dataset.drawn = 0;
      return;
    }
    const width = Math.max(220, Math.min(820, holder.clientWidth - 62));
    const height = Math.round(Math.max(260, Math.min(500, width * 0.64)));
    const [xs, ys] = [
      domain(points.flatMap((p) => [p.encodes_low, p.encodes_high])),
      domain(points.flatMap((p) => [p.carries_low, p.carries_high])),
    ];
    const colours = (names) => names.map((name) => colour(`--${name}`));
    for (const layer of spec.layer) {
      const encoding = layer.encoding;
      if (encoding.x) encoding.x.scale = { domain: xs, nice: false, zero: false };
      if (encoding.y) encoding.y.scale = { domain: ys, nice: false, zero: false };
      for (const channel of ["fill", "stroke"]) {
        const scale = encoding[channel]?.scale;
        if (scale) scale.range = colours(scale.domain);
      }
      for (const channel of ["fill", "stroke", "shape"]) {
        if (encoding[channel]?.legend) encoding[channel].legend.columns = width < 420 ? 3 : 5;
      }
      if (layer.mark.type === "text") layer.mark.color = colour("--ink");
      if (layer.mark.type === "rule" && !encoding.stroke) layer.mark.color = colour("--muted");
    }
    spec.width = width;
    spec.height = height;
    spec.background = "transparent";
    spec.datasets = { points, labels: placeLabels(points, width, height, xs, ys), zero: [{ x: 0, y: 0 }] };
    const font = getComputedStyle(document.body).fontFamily;
    const [ink, muted, rule] = ["--ink", "--muted", "--rule"].map(colour);
    spec.config = {
      font, view: { stroke: null },
      axis: {
        labelColor: muted, titleColor: ink, domainColor: muted, tickColor: muted, gridColor: rule, gridOpacity: 0.6,
        tickCount: 6, titleFontWeight: "normal", titleFontSize: 13, labelFontSize: 11, titlePadding: 8,
      },
      legend: { symbolOpacity: 1, labelColor: ink, titleColor: muted, titleFontWeight: "normal", labelFontSize: 12, symbolSize: 70 },
    };
    note.dataset.labels = spec.datasets.labels.length;
    const options = { actions: false, renderer: "svg", ast: true };
    window.vegaEmbed(holder, spec, options).then((result) => {
      drawn = result;
      holder.dataset.drawn = points.length;
    });
  }

  // who beats whom, on the board whose bands are shown, among the rows that are shown

  let map;
  function drawWins() {
    const holder = document.getElementById("wins");
    if (!holder) return;
    const found = data.wins[state.board];
    const visible = new Set([...body.rows].filter((row) => !row.hidden).map((row) => row.dataset.method));
    const at = (found?.methods ?? []).map((method, i) => [method, i]).filter(([method]) => visible.has(method));
    document.getElementById("wins-words").textContent = found ? `${found.blocks} models and worlds.` : "";
    if (at.length < 2) {
      map?.finalize();
      holder.textContent = "Fewer than two of these methods cover all cells of this board.";
      holder.dataset.drawn = 0;
      return;
    }
    const cells = at.flatMap(([row, i]) => at.filter(([, j]) => i !== j).map(([column, j]) => {
      const share = found.shares[i][j];
      return { row, column, share, text: number(share), shown: at.length <= 24, words: `${row} – ${column}: ${number(share)}` };
    }));
    const spec = structuredClone(data.wins_plot);
    spec.width = spec.height = at.length * (at.length <= 24 ? 26 : 16);
    spec.background = "transparent";
    spec.datasets = { cells };
    const [ink, muted] = ["--ink", "--muted"].map(colour);
    for (const layer of spec.layer) {
      for (const side of ["x", "y"]) layer.encoding[side].scale = { domain: at.map(([method]) => method) };
      const scale = layer.encoding.color?.scale;
      if (scale) scale.range = ["--bad", "--raised", "--accent"].map(colour);
      if ((layer.mark.type ?? layer.mark) === "text") layer.mark = { type: "text", fontSize: 10, color: ink };
    }
    spec.config = {
      font: getComputedStyle(document.body).fontFamily, view: { stroke: null },
      axis: { labelColor: ink, labelFontSize: 11 }, axisX: { labelAngle: -90 },
      legend: { labelColor: muted, titleColor: muted, titleFontWeight: "normal", orient: "top", direction: "horizontal" },
    };
    window.vegaEmbed(holder, spec, { actions: false, renderer: "svg", ast: true }).then((result) => {
      map = result;
      holder.dataset.drawn = at.length;
    });
  }

  // the drill-down

  // one cell's score: on the common scale with its interval, else the plain value with its unit
  function cellScore(score) {
    if (!score) return element("td", {}, "–");
    const [scaled, low, high, value, unit] = score;
    if (scaled === null) {
      const words = element("span", { class: "range" }, unit, element("br"), "no scale");
      return element("td", { class: "na" }, number(value), words);
    }
    const words = low === null ? "" : `${number(low)} to ${number(high)}`;
    return element("td", {}, element("span", { class: "value" }, number(scaled)), element("span", { class: "range" }, words));
  }

  // each board's standard error, what varies under it, and the part that the seeds make
  function errorsOf(method) {
    return data.axes.flatMap((axis) => {
      const [level, se, seeds] = data.views["\t"].boards[axis.id]?.[method]?.[ERRORS] ?? [];
      if (level === undefined) return [];
      return [`${axis.title} ${se.toFixed(3).replace(/^0/, "")} (${level}${seeds ? `, seeds ${seeds.toFixed(3).replace(/^0/, "")}` : ""})`];
    }).join(" · ");
  }

  function open(method) {
    const card = data.methods[method];
    document.getElementById("details-title").textContent = method;
    document.getElementById("details-summary").textContent = card.summary;
    const list = document.getElementById("details-card");
    list.replaceChildren();
    const facts = [["family", card.family], ["claims", card.claims], ["needs", card.needs.join(", ") || "nothing"],
      ["criteria", card.criteria], ["complexity", card.complexity], ["limits", card.limits],
      ["standard errors", errorsOf(method)]].filter(([, value]) => value);
    for (const [name, value] of facts) list.append(element("dt", {}, name), element("dd", {}, value));
    if (card.paper) {
      const link = card.link ? element("a", { href: card.link, rel: "noreferrer" }, card.paper) : card.paper;
      list.append(element("dt", {}, "paper"), element("dd", {}, link));
    }
    const cells = document.getElementById("details-cells");
    const shown = data.axes.filter((axis) => axis.headline);
    const head = ["Task", "Model", ...shown.map((axis) => axis.title), "Seconds", "First neurons", "Their roles", "Reproduce"];
    const top = element("thead", {}, element("tr", {}, ...head.map((t) => element("th", { scope: "col" }, t))));
    const rows = data.cells[method].map((cell) => {
      const scores = shown.map((axis) => cellScore(cell.scores[axis.id]));
      const words = { not_applicable: "not applicable", failed: "failed" }[cell.status];
      const values = words
        ? [element("td", { colspan: shown.length, class: cell.status === "failed" ? "failed" : "na" },
            `${words}${cell.reason ? `: ${cell.reason}` : ""}`)]
        : scores;
      const copy = element("button", { type: "button" }, "copy");
      copy.addEventListener("click", () => {
        const done = () => { copy.textContent = "copied"; };
        navigator.clipboard?.writeText(cell.command).then(done, () => {});
      });
      const where = [cell.model || "no model", cell.detail, cell.seed ? `seed ${cell.seed}` : ""];
      return element("tr", {},
        element("th", { scope: "row" }, cell.task),
        element("td", {}, where.filter(Boolean).join(", ")),
        ...values,
        element("td", {}, seconds(cell.seconds)),
        element("td", {}, ...(cell.top.slice(0, 3).map((name) => element("span", { class: "range" }, name)))),
        element("td", { class: "roles" }, ...cellAnatomy(cell.anatomy)),
        element("td", {}, element("span", { class: "command" }, copy, element("code", {}, cell.command))));
    });
    cells.replaceChildren(top, element("tbody", {}, ...rows));
    document.getElementById("details").showModal();
  }

  // the address names the view: what differs from the page as it opens

  const fields = ["find", "task", "model", "claims", "family", "runs"];

  function writeAddress() {
    const named = new URLSearchParams();
    for (const name of fields) if (form.elements[name].value) named.set(name, form.elements[name].value);
    if (form.elements.all.checked) named.set("all", "1");
    if (state.sort !== data.order || !state.descending) {
      named.set("sort", `${state.descending ? "-" : ""}${state.sort}`);
    }
    if (state.board !== data.order) named.set("board", state.board);
    const hash = named.toString();
    if (hash !== location.hash.slice(1)) history.replaceState(null, "", hash ? `#${hash}` : location.pathname);
  }

  function readAddress() {
    const named = new URLSearchParams(location.hash.slice(1));
    for (const name of fields) {
      const field = form.elements[name];
      field.value = named.get(name) ?? "";
      if (field.selectedIndex === -1) field.value = ""; // an option that this page does not have
    }
    form.elements.all.checked = named.has("all");
    const sort = named.get("sort") ?? `-${data.order}`;
    const known = [...table.tHead.rows[0].cells].map((heading) => heading.dataset.key);
    state.descending = sort.startsWith("-");
    state.sort = known.includes(sort.replace(/^-/, "")) ? sort.replace(/^-/, "") : data.order;
    state.board = axes.has(named.get("board")) ? named.get("board") : axes.has(state.sort) ? state.sort : data.order;
  }

  // what the reader does

  table.tHead.addEventListener("click", (event) => {
    const key = event.target.closest("th")?.dataset.key;
    if (!key || !event.target.closest("button")) return;
    const rising = ["method", "band", "decoys", "natural", "seconds", "passes"].includes(key);
    state.descending = state.sort === key ? !state.descending : !rising;
    state.sort = key;
    if (axes.has(key)) state.board = key;
    for (const row of body.rows) fill(row);
    sortRows();
    drawWins();
    writeAddress();
  });
  body.addEventListener("click", (event) => {
    const button = event.target.closest("button.open");
    if (button) open(button.closest("tr").dataset.method);
  });
  const changed = () => {
    show();
    writeAddress();
  };
  form.addEventListener("input", changed);
  form.addEventListener("reset", () => setTimeout(changed));
  window.addEventListener("hashchange", () => {
    readAddress();
    show();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    draw();
    drawWins();
  });
  let width = window.innerWidth;
  let later;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(later);
    later = setTimeout(draw, 150);
  });
  legend();
  readAddress();
  show();
  document.documentElement.dataset.ready = "yes";
})();
