// The table as it is filtered and ordered, as CSV, with every column; made here, nothing is fetched.
const { data, state, methods, estimate, view, at } = globalThis.nibench;

// a value for a spreadsheet: quoted where it must be, and never a formula
function plain(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function rowOf(method) {
  const card = data.methods[method];
  const lead = estimate(method, state.board);
  const row = { method, family: card.family, claims: card.claims, board: state.board, band: lead?.[at.BAND], p_first: lead?.[at.FIRST] };
  for (const axis of data.axes) {
    const found = estimate(method, axis.id) ?? [];
    const of = { "": "VALUE", "_low": "LOW", "_high": "HIGH", "_cells": "COVERED", "_of": "OF", "_failed": "FAILED" };
    for (const [end, name] of Object.entries(of)) row[`${axis.id}${end}`] = found[at[name]];
  }
  for (const name of data.beside.filter((one) => one !== "anatomy")) {
    const found = view()?.beside[method]?.[name];
    if (["seconds", "passes"].includes(name)) row[name] = found;
    else [row[name], row[`${name}_low`], row[`${name}_high`]] = found ?? [];
  }
  return row;
}

function csv() {
  const rows = methods().map(rowOf);
  const lines = [Object.keys(rows[0] ?? {}), ...rows.map((row) => Object.values(row))];
  return `${lines.map((values) => values.map(plain).join(",")).join("\n")}\n`;
}

document.getElementById("export").addEventListener("click", () => {
  const address = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = "nibench-view.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
});
