// Draws the page's interactive figures with plotly, from the charts that
// analysis/figures/interactive.py puts into the page. A chart is axes and layers: fill, line, points
// (analysis/figures/chart.py).
"use strict";

const CONFIG = { displaylogo: false, responsive: true, displayModeBar: "hover",
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
const INK = "#000001"; // chart.TEXT: the reader's own text colour

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = name => (name === undefined || name === INK ? css("--ink") : name);
const html = text => String(text).replace(/[&<>"]/g, c => `&#${c.charCodeAt(0)};`);
const short = (value, digits = 3) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-2 || size >= 1e5))
    return Number(value.toPrecision(digits)).toExponential().replace("e+", "e");
  return String(Number(value.toPrecision(digits)));
};

async function loadPlotly() {
  const bytes = Uint8Array.from(atob(document.getElementById("plotly").textContent.trim()),
    letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

// A note as lines of about sixty letters, its first line bold.
function note(text) {
  const lines = String(text).split("\n").flatMap(line => line.split(" ").reduce((done, word) => {
    const last = done[done.length - 1];
    return (last + word).length > 60 ? [...done, word] : [...done.slice(0, -1), `${last} ${word}`.trim()];
  }, [""]));
  return `<b>${html(lines[0])}</b>${lines.slice(1).map(line => `<br>${html(line)}`).join("")}<extra></extra>`;
}

function lineTraces(layer) {
  const shared = { x: layer.x, y: layer.y, yaxis: layer.panel ? "y2" : "y", mode: "lines", cliponaxis: true };
  const trace = { ...shared, name: layer.name, showlegend: Boolean(layer.name),
    line: { color: layer.halo ? "#fff" : colour(layer.colour), width: layer.width ?? 1.6, dash: layer.dash },
    hoverinfo: "skip", cell: layer.cell };
  if (layer.note) Object.assign(trace, { hoverinfo: undefined,
    hovertemplate: note(layer.cell ? layer.note : `${layer.name}\n${layer.note}`) });
  if (layer.filled) Object.assign(trace, { fill: "toself", fillcolor: "rgba(255,255,255,.25)" });
  if (!layer.halo) return [trace];
  const rim = { ...shared, showlegend: false, hoverinfo: "skip",
    line: { color: "rgba(60,60,60,.5)", width: (layer.width ?? 1.6) + 1.6 } };
  return [rim, trace];
}

function pointTraces(layer, scale, about) {
  const style = { symbol: (layer.marker ?? "circle") + (layer.hollow ? "-open" : ""), size: (layer.size ?? 6) * 1.5,
    color: layer.values ?? colour(layer.colour),
    line: { color: layer.edge || colour(layer.colour), width: layer.edge ? 1 : layer.hollow ? 1.6 : 0 } };
  if (layer.values) Object.assign(style, { cmin: scale.low, cmax: scale.high, colorscale: "Viridis",
    reversescale: !scale.higher_is_better });
  const texts = layer.cells ? layer.cells.map(i => about[i]) : layer.notes ?? [];
  const trace = { x: layer.x, y: layer.y, yaxis: layer.panel ? "y2" : "y", mode: "markers", marker: style,
    name: layer.name, showlegend: Boolean(layer.name), cliponaxis: false, customdata: layer.cells,
    hovertemplate: texts.length ? texts.map(note) : undefined, hoverinfo: texts.length ? undefined : "skip" };
  if (layer.y_error) trace.error_y = { type: "data", array: layer.y_error, thickness: 1.2, width: 0 };
  if (!layer.x_low) return [trace];
  const x = layer.x.flatMap((_, i) => [layer.x_low[i], layer.x_high[i], null]);
  const y = layer.y.flatMap(value => [value, value, null]);
  const bar = (color, width) => ({ x, y, mode: "lines", line: { color, width }, hoverinfo: "skip", showlegend: false });
  return [bar("#000", 4), bar("#fff", 2), trace];
}

function fillTrace(layer, scale) {
  return { type: "contour", x: layer.x, y: layer.y, z: layer.z, zmin: scale.low, zmax: scale.high,
    autocontour: false, line: { width: 0 }, colorscale: "Viridis", reversescale: !scale.higher_is_better,
    contours: { start: scale.low, end: scale.high, size: (scale.high - scale.low) / 12, showlines: false },
    hoverinfo: "skip", colorbar: { title: { text: html(scale.name), side: "right" }, thickness: 14,
      outlinewidth: 0, x: 1.09 } };
}

function traces(chart, about, shown) {
  const visible = chart.layers.filter(layer => !layer.layer || shown.has(layer.layer));
  return visible.flatMap(layer => layer.kind === "fill" ? [fillTrace(layer, chart.colours)]
    : layer.kind === "line" ? lineTraces(layer) : pointTraces(layer, chart.colours, about));
}

// Text at the end of a line, such as the ratio of a line of equal ratios.
function annotations(chart, shown) {
  return chart.layers.filter(layer => layer.text && (!layer.layer || shown.has(layer.layer))).map(layer => {
    const x = layer.x[layer.x.length - 1], y = layer.y[layer.y.length - 1], top = y >= chart.y.high - 1e-9;
    return { x, y, text: html(layer.text), showarrow: false, font: { size: 10 },
      xanchor: top ? "center" : "left", yanchor: top ? "bottom" : "middle" };
  });
}

function axis(given, extra = {}) {
  const ticks = given.places ? { tickvals: given.places, ticktext: given.labels } : {};
  return { range: [given.low, given.high], title: { text: html(given.name), standoff: 8 }, zeroline: false,
    gridcolor: css("--line"), linecolor: css("--line"), ...ticks, ...extra };
}

function draw(element, chart, about, shown) {
  const filled = Boolean(chart.colours), split = chart.lower ? 0.3 : 0;
  const layout = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    font: { family: "system-ui, sans-serif", size: 12, color: css("--ink") },
    margin: { l: 62, r: 24, t: 30, b: 56 }, height: element.dataset.height ? Number(element.dataset.height) : 600,
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--quiet"), activecolor: css("--accent") },
    legend: { orientation: "h", y: -0.13, yanchor: "top", font: { size: 11 } },
    hoverlabel: { align: "left", bgcolor: css("--panel"), font: { color: css("--ink") } },
    annotations: annotations(chart, shown),
    xaxis: axis(chart.x, { showgrid: !filled, anchor: chart.lower ? "y2" : "y" }),
    yaxis: axis(chart.y, { showgrid: !filled, domain: [split, 1] }) };
  if (chart.lower) layout.yaxis2 = axis(chart.lower, { domain: [0, 0.24] });
  element.setAttribute("aria-label", `${chart.title}: ${chart.y.name} over ${chart.x.name}`);
  return Plotly.react(element, traces(chart, about, shown), layout, CONFIG);
}

// The training curves: those of the chosen cell in full colour, the others faint.
function showCurves(element, chosen) {
  const opacity = element.data.map(trace => !chosen || trace.cell === chosen ? 1 : 0.12);
  const width = element.data.map(trace => chosen && trace.cell === chosen ? 3 : 1.2);
  Plotly.restyle(element, { opacity, "line.width": width });
}

// Draws one grid's surfaces; returns a function that draws others in their place.
function explore(root, given) {
  let surfaces = given ?? JSON.parse(document.getElementById(root.dataset.surfaces).textContent);
  const curves = JSON.parse(document.getElementById(root.dataset.curves)?.textContent ?? "null");
  const find = name => root.querySelector(`.${name}`);
  const [benchmark, metric, kind, cell] = ["benchmark", "metric", "kind", "cell"].map(find);
  const options = (select, values) => select.replaceChildren(...values.map(([value, label]) => new Option(label, value)));
  options(benchmark, [...new Map(surfaces.map(s => [s.benchmark, s.label]))]);
  const metrics = () => options(metric, surfaces.filter(s => s.benchmark === benchmark.value)
    .map(s => [s.metric, s.metric + (s.fitted ? "" : " (not fitted)")]));
  const current = () => surfaces.find(s => s.benchmark === benchmark.value && s.metric === metric.value);
  const choose = chosen => {
    cell.value = chosen;
    showCurves(find("curves"), chosen);
    root.querySelector(".training").open = true;
  };
  const redraw = async () => {
    const surface = current();
    const shown = new Set([...root.querySelectorAll(".layer:checked")].map(box => box.value));
    find("said").textContent = surface.sentence;
    for (const [place, chart] of [["contour", surface.charts.contour], ["scores", surface.charts[kind.value]]]) {
      const element = find(place);
      if (!element) continue;
      element.closest("figure").hidden = !chart;
      if (!chart) continue;
      await draw(element, chart, surface.about, shown);
      element.removeAllListeners("plotly_click");
      if (curves) element.on("plotly_click", event => {
        const row = event.points[0].data.customdata?.[event.points[0].pointNumber];
        if (row !== undefined) choose(surface.names[row]);
      });
    }
    if (find("cells")) listCells(find("cells"), surface);
    find("files")?.replaceChildren(...(surface.figures ? fileLinks(surface) : []));
  };
  if (curves) {
    draw(find("curves"), curves, [], new Set());
    const names = [...new Set(curves.layers.map(line => line.cell))];
    options(cell, [["", "all cells"], ...names.map(one => [one, one])]);
    cell.addEventListener("change", () => showCurves(find("curves"), cell.value));
    root.querySelector(".training").addEventListener("toggle", () => Plotly.Plots.resize(find("curves")));
  }
  benchmark.addEventListener("change", () => { metrics(); redraw(); });
  [metric, kind, ...root.querySelectorAll(".layer")].forEach(control => control.addEventListener("change", redraw));
  find("download")?.addEventListener("click", () => download(root.dataset.name, current()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    redraw();
    if (curves) draw(find("curves"), curves, [], new Set());
  });
  metrics();
  redraw().then(() => { root.dataset.drawn = "yes"; });
  return fresh => {
    const chosen = [benchmark.value, metric.value];
    surfaces = fresh;
    options(benchmark, [...new Map(surfaces.map(s => [s.benchmark, s.label]))]);
    if (surfaces.some(s => s.benchmark === chosen[0])) benchmark.value = chosen[0];
    metrics();
    if (surfaces.some(s => s.benchmark === benchmark.value && s.metric === chosen[1])) metric.value = chosen[1];
    redraw();
  };
}

function fileLinks(surface) {
  return Object.keys(surface.charts).flatMap(kind => [` ${kind}: `, ...["png", "svg", "pdf"].flatMap(end => {
    const link = document.createElement("a");
    link.href = `figures/${surface.figures}-${kind}.${end}`;
    link.textContent = end.toUpperCase();
    return [link, " "];
  })]);
}

function listCells(table, surface) {
  const c = surface.cells;
  table.querySelector("tbody").innerHTML = c.status.map((status, i) => {
    const score = status === "ok" ? `${short(c.value[i], 4)}${c.stderr[i] === null ? "" : ` ± ${short(c.stderr[i], 2)}`}` : "–";
    const size = c.batch_size ? [c.batch_size[i], short(c.learning_rate[i] / c.batch_size[i])] : [];
    const texts = [short(c.learning_rate[i]), ...size, score,
      c.seeds[i], short(c.n[i], 6), status + (c.reason[i] ? `: ${html(c.reason[i])}` : "")];
    return `<tr>${texts.map(text => `<td>${text}</td>`).join("")}</tr>`;
  }).join("");
}

function download(name, surface) {
  const columns = Object.keys(surface.cells);
  const quote = value => /[",\n]/.test(String(value)) ? `"${String(value).replace(/"/g, '""')}"` : value;
  const lines = [columns, ...surface.cells.status.map((_, i) => columns.map(k => surface.cells[k][i]))];
  const text = lines.map(line => line.map(value => quote(value ?? "")).join(",")).join("\n") + "\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = `${name}-${surface.benchmark}-${surface.metric}.csv`.replace(/[^\w.-]/g, "_");
  link.click();
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch { // a page from disk may not have a clipboard
    getSelection().selectAllChildren(source);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
}

document.querySelectorAll("[data-copies]").forEach(button => button.addEventListener("click", () => copy(button)));

let loading = null;
const plotly = () => (loading ??= loadPlotly());
const explorers = [...document.querySelectorAll(".explorer[data-surfaces]")];
if (explorers.length) plotly().then(() => {
  const watch = new IntersectionObserver(entries => entries.filter(entry => entry.isIntersecting).forEach(entry => {
    watch.unobserve(entry.target);
    explore(entry.target);
  }), { rootMargin: "400px" });
  explorers.forEach(root => watch.observe(root));
});
