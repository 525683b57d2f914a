// Draws each figure when it comes near the screen, and again when the table's rows, the width or the colours change.
// Methods are those that the table shows; a spec names colours by the style sheet's variables.
(() => {
  const { data, state, element, colour, view, methods: shown, tappable, rememberFigures, writeAddress, at: AT } = globalThis.nibench;
  const { specs, curves, roles, orders, agreement } = data.figures;
  const { VALUE, LOW, HIGH, COVERED, OF } = AT; // of an estimate in a view
  const MOST = 8; // lines that can be told apart
  const RANDOM = "random_ranking";
  const figure = (name) => document.querySelector(`[data-figure="${name}"]`);
  const chosen = (name, field) => figure(name).querySelector(`[name="${field}"]`).value;
  const number = (value, digits = 2) => {
    if (value === null || value === undefined) return "–";
    const text = value.toFixed(digits).replace(/^(-?)0\./, "$1.");
    return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
  };
  const between = (low, high) => (low === null || low === undefined ? "" : ` (${number(low)} to ${number(high)})`);

  function tableOf(table, head, rows) {
    const cells = (row, name) => row.map((text, i) => (i ? element(name, {}, text) : element("th", { scope: "row" }, text)));
    table.replaceChildren(
      element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col" }, text)))),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...cells(row, "td")))));
  }

  // a copy of the spec in the page's colours
  function painted(value) {
    if (typeof value === "string") return value.startsWith("--") ? colour(value) : value;
    if (Array.isArray(value)) return value.map(painted);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, painted(one)]));
  }

  function config() {
    const [ink, muted, rule] = ["--ink", "--muted", "--rule"].map(colour);
    return {
      font: getComputedStyle(document.body).fontFamily, view: { stroke: null },
      title: { color: ink, anchor: "start", fontSize: 13, fontWeight: "normal" },
      axis: {
        labelColor: muted, titleColor: ink, domainColor: muted, tickColor: muted, gridColor: rule, gridOpacity: 0.6,
        titleFontWeight: "normal", titleFontSize: 13, labelFontSize: 11, titlePadding: 8,
      },
      axisBand: { labelColor: ink },
      legend: { labelColor: ink, titleColor: muted, titleFontWeight: "normal", labelFontSize: 12 },
    };
  }

  const channels = (spec) => (spec.layer ?? [spec]).flatMap((layer) => Object.entries(layer.encoding ?? {}));
  const scales = (spec, ...names) => channels(spec).filter(([name, one]) => names.includes(name) && one.scale).map(([, one]) => one.scale);
  function legends(spec, columns) {
    for (const [, one] of channels(spec)) if (one.legend) one.legend.columns = columns;
  }

  // each figure: what it is drawn from now, or words for why there is nothing

  const makers = {
    cost(room) {
      const [board, cost] = [chosen("cost", "board"), chosen("cost", "cost")];
      const axis = data.axes.find((one) => one.id === board);
      const points = shown().flatMap((method) => {
        const [found, beside] = [view()?.boards[board]?.[method], view()?.beside[method]];
        if (!found || beside?.[cost] === null || beside?.[cost] === undefined) return [];
        const value = found[VALUE];
        return [{
          method, claims: data.methods[method].claims, seconds: beside.seconds, passes: beside.passes,
          value, value_low: found[LOW] ?? value, value_high: found[HIGH] ?? value,
          value_text: number(value) + between(found[LOW], found[HIGH]), complete: found[COVERED] === found[OF],
        }];
      });
      const words = figure("cost").querySelector("[data-words-of]");
      words.textContent = "";
      if (!points.length) return "No method here has both a value on this board and a known cost.";
      const cheap = points.filter((p) => p.complete).sort((a, b) => a[cost] - b[cost] || b.value - a.value);
      const front = cheap.filter((p, i) => cheap.slice(0, i).every((other) => other.value < p.value));
      const unit = cost === "seconds" ? " s" : " passes";
      const price = (p) => (p[cost] >= 1000 ? p[cost].toLocaleString("en") : String(Number(p[cost].toPrecision(2)))) + unit;
      words.textContent = `On the front, cheapest first: ${front.map((p) => `${p.method} (${p.value_text}, ${price(p)})`).join("; ")}.`;
      const spec = painted(specs[cost]);
      const height = room < 480 ? 320 : 400;
      const values = points.flatMap((p) => [p.value_low, p.value_high]);
      spec.params.find((one) => one.name === "step").value = (16 / (height - 70)) * (Math.max(...values) - Math.min(...values) || 1);
      spec.title = `↑ ${axis.title} (0 random, 1 ceiling)`;
      return { spec, datasets: { points }, width: room, height, count: points.length };
    },

    curves(room) {
      const cell = curveCell();
      if (!cell) return "No curves here.";
      const [, metric, k, random, low, high, of] = cell;
      const names = [...figure("curves").querySelectorAll(".choice input:checked")].map((one) => one.value);
      const row = (method, i, value, half) => ({ method, k: k[i], value: value / 1000, low: (value - half) / 1000, high: (value + half) / 1000 });
      const lines = names.flatMap((method) => of[method][0].map((value, i) => row(method, i, value, of[method][1]?.[i] ?? 0)));
      const matched = names.flatMap((method) => (of[method][2] ?? []).map(([at, value]) => ({ method, k: at, value: value / 1000, words: `random sets like those of ${method}` })));
      const band = (random ?? []).map((value, i) => ({
        k: k[i], value: value / 1000, low: (low ?? random)[i] / 1000, high: (high ?? random)[i] / 1000, words: "random rankings",
      }));
      const words = (value, half) => number(value / 1000) + (half === undefined ? "" : ` ±${number(half / 1000)}`);
      tableOf(document.getElementById("curves-table"), ["First k", ...k.map(String)], [
        ...names.map((method) => [method, ...of[method][0].map((value, i) => words(value, of[method][1]?.[i]))]),
        ...(random ? [["random rankings, mean", ...random.map((value) => words(value))]] : []),
        ...(low ? [["random rankings, 95 %", ...low.map((value, i) => `${words(value)} to ${words(high[i])}`)]] : []),
      ]);
      const spec = painted(specs.curves);
      for (const scale of scales(spec, "color", "shape")) scale.domain = names;
      legends(spec, room < 480 ? 2 : 4);
      spec.title = `↑ ${curves.metrics[metric][1]}`;
      if (room < 480) spec.title = { text: spec.title.match(/.{1,44}(\s|$)/g).map((line) => line.trim()) };
      return { spec, datasets: { lines, null: band, matched }, width: room, height: room < 480 ? 340 : 420, count: names.length };
    },

    anatomy(room) {
      const found = shown().map((method) => [method, Object.entries(view()?.beside[method]?.anatomy ?? {}).map(([role, [share]]) => [role, share])]).filter(([, of]) => of.length);
      const there = Object.keys(roles).filter((role) => found.some(([, of]) => of.some(([name]) => name === role)));
      there.sort((a, b) => roles[a][1] - roles[b][1]);
      const plain = (role) => role.replaceAll("_", " ");
      const percent = (share) => (share === undefined ? "–" : `${Math.round(100 * share)} %`);
      tableOf(document.getElementById("anatomy-table"), ["Method", ...there.map(plain)],
        found.map(([method, of]) => [method, ...there.map((role) => percent(Object.fromEntries(of)[role]))]));
      if (!found.length) return "No method here has neurons whose roles are known.";
      const shares = found.flatMap(([method, of]) => of.map(([role, share]) => ({
        method, role: plain(role), share, kind: roles[role][0], at: roles[role][1],
      })));
      const spec = painted(specs.anatomy);
      const kinds = new Set(shares.map((one) => one.kind));
      for (const scale of scales(spec, "color")) {
        const keep = scale.domain.map((kind, i) => [kind, scale.range[i]]).filter(([kind]) => kinds.has(kind));
        [scale.domain, scale.range] = [keep.map(([kind]) => kind), keep.map(([, one]) => one)];
      }
      legends(spec, room < 480 ? 3 : 5);
      if (room < 480) spec.encoding.y.axis.labelLimit = 110;
      return { spec, datasets: { shares }, width: Math.min(room, 860), height: 19 * found.length + 90, count: found.length };
    },

    orders(room) {
      const { tiers, rows, taus } = orders[chosen("orders", "claim")];
      const claim = chosen("orders", "claim");
      const [last, narrow] = [tiers.length - 1, room < 560];
      const ranks = rows.map(([method, at, rank, low, high, score]) => {
        const claims = data.methods[method].claims;
        return { method, at, rank, low, high, score, claims, own: claims === claim, tier: tiers[at] };
      });
      const [starts, ends] = [0, last].map((end) => ranks.filter((row) => row.at === end)
        .sort((a, b) => a.rank - b.rank || a.method.localeCompare(b.method))
        .map((row, i) => ({ ...row, spot: i + 1 })));
      const methods = [...new Set(ranks.map((row) => row.method))];
      const words = (row) => number(row.rank, row.rank % 1 ? 1 : 0) + (row.low === null ? "" : ` (${row.low}–${row.high})`);
      tableOf(document.getElementById("orders-table"), ["Method", ...tiers], ends.map(({ method }) =>
        [method, ...tiers.map((_, at) => words(ranks.find((row) => row.method === method && row.at === at)))]));
      const spec = painted(specs.orders);
      const [width, right] = [Math.min(room, 300 + 150 * last), 7 * Math.max(...methods.map((name) => name.length)) + 8];
      const left = narrow ? 34 : right;
      const unit = (width - left - right) / last;
      for (const scale of scales(spec, "x")) Object.assign(scale, { padding: 0, domain: [-left / unit, last + right / unit] });
      legends(spec, narrow ? 3 : 5);
      const heads = tiers.map((text, at) => ({ at, y: -1.1 - (narrow && at % 2), text }));
      const tau = ({ value, low, high }) => `τ ${number(value)}${unit > 130 ? between(low, high) : ""}`;
      const gaps = taus.map((one) => ({ at: one.at, y: 0, text: unit > 44 ? tau(one) : number(one.value) }));
      const ranges = ranks.filter((row) => row.low !== null);
      const datasets = { ranks, ranges, starts: narrow ? [] : starts, ends, tiers: heads, taus: gaps };
      return { spec, datasets, width, height: 18 * methods.length + 90, count: methods.length };
    },

    agreement() {
      const visible = new Set(shown());
      const at = agreement.map((row, i) => [row.method, i]).filter(([method]) => visible.has(method));
      if (at.length < 2) return "Fewer than two of these methods kept their rankings.";
      const cells = at.flatMap(([row, i]) => at.filter(([, j]) => i !== j && agreement[i].values[j] !== null).map(([column, j]) => {
        const share = agreement[i].values[j];
        return { row, column, share, text: number(share), shown: at.length <= 24 };
      }));
      const spec = painted(specs.agreement);
      for (const [name, one] of channels(spec)) if ("xy".includes(name)) one.scale = { domain: at.map(([method]) => method) };
      const size = at.length * (at.length <= 24 ? 26 : 15);
      return { spec, datasets: { cells }, width: size, height: size, fixed: true, count: at.length };
    },
  };

  // the curves' own choices

  function curveCell() {
    const [metric, place] = [Number(chosen("curves", "metric")), Number(chosen("curves", "place"))];
    return curves.cells.find((cell) => cell[0] === place && cell[1] === metric);
  }

  function fillPlaces() {
    const field = figure("curves").querySelector("[name=place]");
    const before = field.value;
    const metric = Number(chosen("curves", "metric"));
    const there = curves.cells.filter((cell) => cell[1] === metric).map((cell) => cell[0]);
    field.replaceChildren(...there.map((place) => element("option", { value: place }, curves.places[place])));
    if (there.includes(Number(before)) && before) field.value = before;
  }

  // the reader's choice; until there is one, the best of five families that the table shows, and random
  function fillChoice() {
    const choice = figure("curves").querySelector(".choice");
    const cell = curveCell();
    const board = view()?.boards[curves.metrics[cell[1]][2]] ?? {};
    const there = Object.keys(cell[6]);
    there.sort((a, b) => (board[b]?.[VALUE] ?? -9) - (board[a]?.[VALUE] ?? -9) || a.localeCompare(b));
    const visible = new Set(shown());
    const families = new Set();
    const first = there.filter((method) => { // the best of each family
      const { family } = data.methods[method];
      const one = visible.has(method) && method !== RANDOM && !families.has(family);
      if (one) families.add(family);
      return one;
    }).slice(0, 5);
    const checked = new Set(state.curves ?? [...first, ...there.filter((method) => method === RANDOM)]);
    choice.replaceChildren(choice.querySelector("legend"), ...there.map((method) => {
      const box = element("input", { type: "checkbox", value: method });
      box.checked = checked.has(method);
      return element("label", {}, box, method);
    }));
    limit();
  }

  function limit() {
    const boxes = [...figure("curves").querySelectorAll(".choice input")];
    const full = boxes.filter((box) => box.checked).length >= MOST;
    for (const box of boxes) box.disabled = full && !box.checked;
  }

  // drawing

  const seen = new Set();
  const drawn = new Map();
  function draw(name) {
    const holder = document.getElementById(`${name}-plot`);
    if (name === "curves") fillChoice();
    const made = makers[name](Math.min(figure(name).clientWidth, 980));
    drawn.get(name)?.finalize();
    drawn.delete(name);
    if (typeof made === "string") {
      holder.replaceChildren(made);
      holder.dataset.drawn = 0;
      return;
    }
    const { spec, datasets, width, height, fixed, count } = made;
    Object.assign(spec, { datasets, width, height, background: "transparent", config: config() });
    spec.layer = spec.layer?.filter((layer) => !layer.data || datasets[layer.data.name].length);
    if (!fixed) spec.autosize = { type: "fit", contains: "padding" };
    const inner = element("div"); // Vega gives its own role to what it draws in; the figure keeps its label
    holder.replaceChildren(inner);
    window.vegaEmbed(inner, spec, { actions: false, renderer: "svg", ast: true }).then((result) => {
      drawn.set(name, tappable(result));
      holder.dataset.drawn = count;
    });
  }

  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting || seen.has(target.dataset.figure)) continue;
      seen.add(target.dataset.figure);
      near.unobserve(target);
      draw(target.dataset.figure);
    }
  }, { rootMargin: "300px" });

  let later;
  const again = () => {
    clearTimeout(later);
    later = setTimeout(() => seen.forEach(draw), 120);
  };
  document.addEventListener("nibench:shown", again);
  document.addEventListener("nibench:theme", again);
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    again();
  });
  for (const section of document.querySelectorAll("[data-figure]")) {
    const name = section.dataset.figure;
    if (name === "cost") section.hidden = !Object.values(data.view.beside).some((beside) => beside.seconds !== null);
    else section.hidden = false;
    if (name === "curves") fillPlaces();
    section.addEventListener("change", (event) => {
      if (event.target.name === "metric") fillPlaces();
      if (event.target.type === "checkbox") {
        state.curves = [...section.querySelectorAll(".choice input:checked")].map((box) => box.value);
      }
      writeAddress();
      draw(name);
    });
    section.querySelector("[name=metric]")?.addEventListener("nibench:set", fillPlaces);
    near.observe(section);
  }
  rememberFigures();
})();
