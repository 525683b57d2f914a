// The plane of encodes against carries, drawn from the rows that are shown.
const { data, view, methods, number, colour, tappable } = globalThis.nibench;

function pointsOfPlane() {
  return methods().flatMap((method) => {
    const [x, y, cells, of] = view()?.plane[method] ?? [];
    if (!x) return [];
    const text = ([value, low, high]) => number(value) + (low === null ? "" : ` (${number(low)} to ${number(high)})`);
    return [{
      method, family: data.methods[method].family, claims: data.methods[method].claims,
      encodes: x[0], encodes_low: x[1] ?? x[0], encodes_high: x[2] ?? x[0], encodes_text: text(x),
      carries: y[0], carries_low: y[1] ?? y[0], carries_high: y[2] ?? y[0], carries_text: text(y),
      complete: cells === of, covers: `${cells} of ${of} cells`,
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

const used = (point) => point.carries > 0.85;
const firstPlaced = (a, b) =>
  used(b) - used(a) || (used(a) ? b.carries - a.carries : 0) || a.encodes - b.encodes || b.carries - a.carries;

// Greedy placing, the best that the model uses first, then from left to right: around each point the free spot that costs least. A spot costs its
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
  for (const point of [...points].sort(firstPlaced)) {
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
let before;
function show() {
  const now = JSON.stringify(pointsOfPlane().sort((a, b) => a.method.localeCompare(b.method))); // order draws nothing
  if (now !== before) draw();
  before = now;
}

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
    drawn = tappable(result);
    holder.dataset.drawn = points.length;
  });
}

let width = window.innerWidth;
let later;
window.addEventListener("resize", () => {
  if (window.innerWidth === width) return;
  width = window.innerWidth;
  clearTimeout(later);
  later = setTimeout(draw, 150);
});
document.addEventListener("nibench:shown", show);
document.addEventListener("nibench:theme", draw);
