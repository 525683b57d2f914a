// Who beats whom, on the board whose bands are shown, among the rows that are shown.
const { data, banding, methods, number, colour, tappable } = globalThis.nibench;

const holder = document.getElementById("wins");
let map;
let before;
let near = false; // it is drawn once the reader comes near it
function show() {
  if (!near) return;
  const now = `${banding()} ${methods().sort().join(" ")}`; // another order of the same rows draws nothing
  if (now !== before) draw();
  before = now;
}

function draw() {
  const found = data.wins[banding()];
  const visible = new Set(methods());
  const at = (found?.methods ?? []).map((method, i) => [method, i]).filter(([method]) => visible.has(method));
  document.getElementById("wins-words").textContent = found ? `${found.blocks} models and worlds, all of them whatever is chosen above.` : "";
  if (at.length < 2) {
    map?.finalize();
    holder.textContent = "Fewer than two of these methods cover all cells of this board.";
    holder.dataset.drawn = 0;
    return;
  }
  const cells = at.flatMap(([row, i]) => at.filter(([, j]) => i !== j).map(([column, j]) => {
    const share = found.shares[i][j];
    return { row, column, share, text: number(share), shown: true };
  }));
  const spec = structuredClone(data.wins_plot);
  spec.width = spec.height = at.length * (at.length <= 24 ? 26 : 16);
  spec.background = "transparent";
  spec.datasets = { cells };
  if (at.length > 24) spec.layer = spec.layer.filter((layer) => (layer.mark.type ?? layer.mark) !== "text");
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
    map = tappable(result);
    holder.dataset.drawn = at.length;
  });
}

if (holder) {
  new IntersectionObserver(([seen]) => {
    if (near || !seen.isIntersecting) return;
    near = true;
    show();
  }, { rootMargin: "600px" }).observe(holder);
  document.addEventListener("nibench:shown", show);
  document.addEventListener("nibench:theme", () => near && draw());
}
