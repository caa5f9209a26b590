// The page's interactive figures, from the records of analysis/explorer.py that stand beside it.
"use strict";

const VERMILION = "#d55e00", PURPLE = "#cc79a7", GREY = "#8a8f98"; // Okabe and Ito's palette
const DASHES = ["dash", "longdashdot", "dot", "dashdot"];
const MARKS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "hexagon",
  "triangle-left", "triangle-right", "star"];
const VIRIDIS = ["#277f8e", "#1fa187", "#4ac16d", "#7ad151", "#a0da39", "#d2e21b"];
const CONFIG = { displaylogo: false, responsive: true, displayModeBar: "hover",
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };

const short = (value, digits = 3) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-2 || size >= 1e5))
    return Number(value.toPrecision(digits)).toExponential().replace("e+", "e");
  return String(Number(value.toPrecision(digits)));
};
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const escape = text => String(text).replace(/[&<>"]/g, c => `&#${c.charCodeAt(0)};`);
const halo = text => `<b>${escape(text)}</b>`;

async function loadPlotly() {
  const bytes = Uint8Array.from(atob(document.getElementById("plotly").textContent.trim()),
    letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

function scoreText(surface, i) {
  const c = surface.cells;
  if (c.status[i] !== "ok") return `${c.status[i]}${c.reason[i] ? ": " + escape(c.reason[i]) : ""}`;
  const error = c.stderr[i] === null ? " (no standard error known)" : ` ± ${short(c.stderr[i], 2)}`;
  return `${escape(surface.metric)} ${short(c.value[i], 4)}${error}`;
}

function hover(surface, i) {
  const c = surface.cells;
  const lines = [
    `learning rate ${short(c.learning_rate[i])}, batch size ${c.batch_size[i]}`,
    `LR/BS ${short(c.learning_rate[i] / c.batch_size[i])}`,
    `<b>${scoreText(surface, i)}</b>`,
    `${c.seeds[i]} seed${c.seeds[i] === 1 ? "" : "s"}${c.n[i] ? `, ${c.n[i]} items` : ""}, ${c.status[i]}`,
  ];
  if (c.fit && c.fit[i] !== null) lines.push(`fit ${short(c.fit[i], 4)} ± ${short(c.fit_sd[i], 2)}`);
  if (c.probability && c.probability[i] !== null)
    lines.push(`as good as the best with probability ${c.probability[i].toFixed(2)}`);
  return lines.join("<br>");
}

const rows = (surface, status) => surface.cells.status.map((s, i) => i)
  .filter(i => surface.cells.status[i] === status);
const pick = (values, chosen) => chosen.map(i => values[i]);

function contourTraces(surface, shown) {
  const c = surface.cells, [low, high] = surface.range, ok = rows(surface, "ok"), traces = [];
  const reversescale = surface.better === "lower";
  const bar = { title: { text: `${surface.metric} (${surface.better} is better)`, side: "right" },
    thickness: 14, outlinewidth: 0, x: 1.09 };
  if (surface.mesh) traces.push({ type: "contour", ...surface.mesh, zmin: low, zmax: high,
    autocontour: false, contours: { start: low, end: high, size: (high - low) / 12, showlines: false },
    line: { width: 0 }, colorscale: "Viridis", reversescale, hoverinfo: "skip", colorbar: bar });
  if (shown.has("ratios")) {
    const [x0, x1] = surface.xAxis.limits, [y0, y1] = surface.yAxis.limits;
    const place = [[], [], [], []];
    surface.ratioLines.places.forEach((ratio, k) => {
      const ends = [Math.max(x0, y0 + ratio), Math.min(x1, y1 + ratio)];
      if (ends[0] >= ends[1]) return;
      place[0].push(...ends, null);
      place[1].push(ends[0] - ratio, ends[1] - ratio, null);
      place[2].push("", surface.ratioLines.labels[k], "");
      place[3].push("top center", ends[1] < x1 - 1e-9 ? "top center" : "middle right", "top center");
    });
    traces.push({ x: place[0], y: place[1], mode: "lines", line: { color: "rgba(90,90,90,.45)", width: 2.4 },
      hoverinfo: "skip", showlegend: false });
    traces.push({ x: place[0], y: place[1], text: place[2], mode: "lines+text", textposition: place[3],
      textfont: { size: 10, color: css("--ink") }, line: { color: "rgba(255,255,255,.75)", width: 1 },
      cliponaxis: false, hoverinfo: "skip", showlegend: false });
  }
  if (shown.has("rules")) (surface.lines || []).forEach((line, k) => traces.push({ x: line.x, y: line.y,
    mode: "lines", name: line.name, line: { color: PURPLE, width: 2, dash: DASHES[k % DASHES.length] },
    hovertemplate: `${halo(line.name)}<br>${wrapped(line.note)}<extra></extra>` }));
  if (shown.has("region")) {
    (surface.region || []).forEach((one, k) => traces.push({ ...one, mode: "lines", fill: "toself",
      fillcolor: "rgba(255,255,255,.28)", line: { color: VERMILION, width: 1.6 }, hoverinfo: "skip",
      name: "95 % region of the optimum", legendgroup: "region", showlegend: k === 0 }));
    if (surface.path) traces.push({ x: surface.path.x, y: surface.path.y, mode: "lines+markers",
      line: { color: "#fff", width: 2 }, marker: { color: "#fff", size: 6, line: { color: "#000", width: 1 } },
      name: "best learning rate of each batch size",
      hovertemplate: surface.path.batch_size.map((size, k) => `batch size ${size}: best learning rate ` +
        `${short(2 ** surface.path.x[k])}<br>95 % interval ${short(2 ** surface.path.low[k])} to ` +
        `${short(2 ** surface.path.high[k])}<extra></extra>`) });
  }
  traces.push({ x: pick(c.x, ok), y: pick(c.y, ok), mode: "markers", name: "measured cell",
    marker: { size: 11, color: pick(c.value, ok), colorscale: "Viridis", reversescale, cmin: low, cmax: high,
      line: { color: "#fff", width: 1.5 }, showscale: !surface.mesh, colorbar: surface.mesh ? undefined : bar },
    hovertemplate: ok.map(i => hover(surface, i) + "<extra></extra>") });
  const bad = { diverged: { symbol: "x", size: 11, color: VERMILION },
    failed: { symbol: "square-open", size: 11, color: GREY } };
  for (const status of Object.keys(bad)) {
    const here = rows(surface, status);
    if (here.length) traces.push({ x: pick(c.x, here), y: pick(c.y, here), mode: "markers", name: status,
      marker: bad[status], hovertemplate: here.map(i => hover(surface, i) + "<extra></extra>") });
  }
  if (surface.best !== null) traces.push({ x: [c.x[surface.best]], y: [c.y[surface.best]], mode: "markers",
    name: `best cell as measured (${short(c.value[surface.best])})`,
    marker: { symbol: "star", size: 17, color: "#fff", line: { color: "#000", width: 1 } },
    hovertemplate: `<b>best cell as measured</b><br>${hover(surface, surface.best)}<extra></extra>` });
  if (shown.has("published") && surface.points && surface.points.length) traces.push({
    x: surface.points.map(p => p.x), y: surface.points.map(p => p.y), mode: "markers", cliponaxis: false,
    name: "published setting (hollow: outside this grid)",
    marker: { symbol: surface.points.map(p => p.inside ? "triangle-down" : "triangle-down-open"), size: 13,
      color: PURPLE, line: { color: surface.points.map(p => p.inside ? "#000" : PURPLE), width: 1.5 } },
    hovertemplate: surface.points.map(p => `${halo(p.name)}<br>${wrapped(p.note)}<extra></extra>`) });
  if (surface.optimum) {
    const [x, y] = surface.optimum, [a, b] = surface.interval.map(r => (r - (x - y)) / 2);
    traces.push({ x: [x + a, x + b], y: [y - a, y - b], mode: "lines", line: { color: "#000", width: 3 },
      hoverinfo: "skip", showlegend: false });
    traces.push({ x: [x], y: [y], mode: "markers", name: "optimum of the fit, 95 % interval of its ratio",
      marker: { symbol: "diamond", size: 13, color: VERMILION, line: { color: "#fff", width: 1.5 } },
      hovertemplate: `<b>optimum of the fit</b><br>learning rate ${short(2 ** x)}, batch size ` +
        `${short(2 ** y)}<br>LR/BS ${short(2 ** (x - y))}, 95 % interval ` +
        `${surface.interval.map(r => short(2 ** r)).join(" to ")}<extra></extra>` });
  }
  return traces;
}

function wrapped(text, width = 60) {
  return escape(text).split(" ").reduce((lines, word) => {
    const last = lines[lines.length - 1];
    return (last + word).length > width ? [...lines, word] : [...lines.slice(0, -1), `${last} ${word}`.trim()];
  }, [""]).join("<br>");
}

function ratioTraces(surface) {
  const c = surface.cells, [low, high] = surface.range, span = high - low || 1, traces = [];
  const ratio = c.x.map((x, i) => x - c.y[i]);
  const sizes = [...new Set(c.batch_size)].sort((a, b) => a - b);
  const near = v => v >= low - 1e-9 * span && v <= high + 1e-9 * span;
  let offScale = 0;
  sizes.forEach((size, k) => {
    const here = rows(surface, "ok").filter(i => c.batch_size[i] === size);
    const color = VIRIDIS[Math.floor(k * VIRIDIS.length / sizes.length)];
    const shared = { mode: "markers", name: `batch size ${size}`, legendgroup: String(size),
      marker: { color, size: 8, symbol: MARKS[k % MARKS.length] } };
    const bars = chosen => ({ type: "data", array: pick(c.stderr, chosen), thickness: 1.2, width: 0 });
    const text = chosen => chosen.map(i => hover(surface, i) + "<extra></extra>");
    const on = here.filter(i => near(c.value[i])), off = here.filter(i => !near(c.value[i]));
    traces.push({ ...shared, x: pick(ratio, on), y: pick(c.value, on), error_y: bars(on), hovertemplate: text(on) });
    if (off.length) traces.push({ ...shared, x: pick(ratio, off), name: "off the scale", legendgroup: "off", showlegend: offScale++ === 0,
      y: off.map(i => c.value[i] < low ? low - 0.07 * span : high + 0.07 * span), hovertemplate: text(off),
      marker: { color, size: 10, symbol: off.map(i => c.value[i] < low ? "arrow-down" : "arrow-up") } });
    if (c.residual) {
      const left = here.filter(i => c.residual[i] !== null);
      traces.push({ ...shared, x: pick(ratio, left), y: pick(c.residual, left), yaxis: "y2", showlegend: false,
        error_y: bars(left), hovertemplate: left.map(i => `residual ${short(c.residual[i])}<br>` +
          hover(surface, i) + "<extra></extra>") });
    }
  });
  const ends = [Math.min(...ratio), Math.max(...ratio)];
  if (surface.curve) {
    traces.push({ ...surface.curve, mode: "lines", line: { color: VERMILION, width: 2 }, hoverinfo: "skip",
      name: `fit on the ratio alone, R² = ${surface.curve.r2.toFixed(2)}` });
    traces.push({ x: ends, y: [0, 0], yaxis: "y2", mode: "lines", line: { color: VERMILION, width: 1.5 },
      hoverinfo: "skip", showlegend: false });
  }
  [["chance", "dot"], ["before", "dash"]].forEach(([name, dash]) => {
    const level = surface[name];
    if (level === null || level === undefined || level < low - span || level > high + span) return;
    const said = name === "before" ? "before training" : name;
    traces.push({ x: ends, y: [level, level], mode: "lines", line: { color: GREY, width: 1.5, dash },
      name: `${said} (${short(level)})`, hoverinfo: "skip" });
  });
  const lost = rows(surface, "diverged");
  if (lost.length) traces.push({ x: pick(ratio, lost), y: lost.map(() => low - 0.07 * span), mode: "markers",
    name: "diverged (no score)", marker: { symbol: "x", color: VERMILION, size: 9 },
    hovertemplate: lost.map(i => hover(surface, i) + "<extra></extra>") });
  return traces;
}

function layout(extra) {
  const line = css("--line"), axis = { gridcolor: line, zeroline: false, linecolor: line };
  return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    font: { family: "system-ui, sans-serif", size: 12, color: css("--ink") },
    margin: { l: 58, r: 20, t: 30, b: 56 }, height: 620,
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--quiet"), activecolor: css("--accent") },
    legend: { orientation: "h", y: -0.13, yanchor: "top", font: { size: 11 } },
    hoverlabel: { align: "left", bgcolor: css("--panel"), font: { color: css("--ink") } },
    ...extra(axis) };
}

function ticks(axis, given, title) {
  return { ...axis, tickvals: given.places, ticktext: given.labels, range: given.limits, showgrid: false,
    title: { text: title || given.name, standoff: 8 } };
}

function explore(root) {
  const surfaces = JSON.parse(document.getElementById(root.dataset.surfaces).textContent);
  const find = name => root.querySelector(`.${name}`);
  const [benchmark, metric] = [find("benchmark"), find("metric")];
  const options = (select, values) => select.replaceChildren(
    ...values.map(([value, label]) => new Option(label, value)));
  options(benchmark, [...new Map(surfaces.map(s => [s.benchmark, s.label]))]);
  const metrics = () => options(metric, surfaces.filter(s => s.benchmark === benchmark.value)
    .map(s => [s.metric, s.metric + (s.lines ? "" : " (not fitted)")]));
  const current = () => surfaces.find(s => s.benchmark === benchmark.value && s.metric === metric.value);
  const draw = () => {
    const surface = current();
    const shown = new Set([...root.querySelectorAll(".layer:checked")].map(box => box.value));
    find("said").textContent = surface.sentence;
    Plotly.react(find("contour"), contourTraces(surface, shown), layout(axis => ({
      xaxis: ticks(axis, surface.xAxis), yaxis: ticks(axis, surface.yAxis) })), CONFIG);
    const [low, high] = surface.range, pad = 0.1 * (high - low || 1), split = surface.curve ? 0.32 : 0;
    const reach = ["chance", "before"].map(name => surface[name])
      .filter(v => typeof v === "number" && v >= low - (high - low) && v <= high + (high - low));
    Plotly.react(find("ratio"), ratioTraces(surface), layout(axis => ({
      xaxis: { ...ticks(axis, surface.ratioTicks, "learning rate / batch size"), range: undefined,
        anchor: surface.curve ? "y2" : "y" },
      yaxis: { ...axis, domain: [split, 1], title: { text: `${surface.metric} (${surface.better} is better)` },
        range: [Math.min(low, ...reach) - pad, Math.max(high, ...reach) + pad] },
      yaxis2: { ...axis, domain: [0, 0.26], visible: Boolean(surface.curve), title: { text: "residual" } } })),
    CONFIG);
    find("contour").setAttribute("aria-label", `${surface.label}, ${surface.metric}: contour over learning ` +
      `rate and batch size. ${surface.sentence}`);
    find("ratio").setAttribute("aria-label", `${surface.label}, ${surface.metric}: score against LR/BS`);
    listCells(find("cells"), surface);
    find("files").replaceChildren(...(surface.figures ? fileLinks(surface) : []));
  };
  benchmark.addEventListener("change", () => { metrics(); draw(); });
  metric.addEventListener("change", draw);
  root.querySelectorAll(".layer").forEach(box => box.addEventListener("change", draw));
  find("download").addEventListener("click", () => download(root.dataset.name, current()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  metrics();
  draw();
  root.dataset.drawn = "yes";
}

function fileLinks(surface) {
  return ["contour", "ratio"].flatMap(kind => [` ${kind}: `, ...["png", "svg", "pdf", "csv"].flatMap(end => {
    const link = document.createElement("a");
    link.href = `figures/${surface.figures}-${kind}.${end}`;
    link.textContent = end.toUpperCase();
    return [link, " "];
  })]);
}

function listCells(table, surface) {
  const c = surface.cells;
  const line = texts => `<tr>${texts.map(text => `<td>${text}</td>`).join("")}</tr>`;
  table.querySelector("tbody").innerHTML = c.status.map((status, i) => line([short(c.learning_rate[i]),
    c.batch_size[i], short(c.learning_rate[i] / c.batch_size[i]), scoreText(surface, i), c.seeds[i],
    short(c.n[i], 6), status])).join("");
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

document.querySelectorAll("[data-copies]").forEach(button =>
  button.addEventListener("click", () => copy(button)));

const explorers = [...document.querySelectorAll(".explorer")];
if (explorers.length) loadPlotly().then(() => {
  const watch = new IntersectionObserver(seen => seen.filter(one => one.isIntersecting).forEach(one => {
    watch.unobserve(one.target);
    explore(one.target);
  }), { rootMargin: "400px" });
  explorers.forEach(one => watch.observe(one));
});
