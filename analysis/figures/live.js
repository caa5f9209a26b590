// The page of a running sweep: asks for live.js again and again, which calls `sweepState` with what
// sweep/page/state.py found, and for live_surfaces.js where there are new contours. Where they are
// gone the report has taken the page's place, and the page loads itself anew.

const POLL = 2000, SILENT = 90000;
const page = document.querySelector("[data-live]");
const maps = new Map();
let shownSurfaces = 0, missed = 0, last = null;
let changed = 0, answered = 0, alive = false; // `written` was seen to change; an answer came; whether any change was seen

function ask(name, missing) {
  const script = document.createElement("script");
  script.src = `${name}?${Date.now()}`;
  script.onload = () => script.remove();
  script.onerror = () => { script.remove(); missing?.(); };
  document.head.append(script);
}

function poll() {
  ask(page.dataset.live, () => { if (++missed > 1) location.reload(); });
  setTimeout(poll, missed > 1 ? 5 * POLL : POLL);
}

function element(tag, text = "", name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

function polyline(curve, range) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  if (curve && range) {
    const [low, high] = range, [x, y] = curve;
    const height = loss => 29 - 28 * Math.min(Math.max((loss - low) / (high - low), 0), 1);
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("points", x.map((place, i) => `${(100 * place).toFixed(1)},${height(y[i]).toFixed(1)}`).join(" "));
    svg.append(line);
  }
  return svg;
}

function mapOf(given) {
  let map = maps.get(given.id);
  if (!map) {
    const root = document.getElementById("map").content.cloneNode(true).querySelector("section");
    map = { root, select: root.querySelector(".colour select"), given };
    root.querySelector("h2").textContent = given.title;
    map.select.addEventListener("change", () => fill(map));
    page.querySelector(".maps").append(root);
    maps.set(given.id, map);
  }
  const axes = JSON.stringify([given.rates, given.sizes]);
  if (map.axes !== axes) Object.assign(map, { axes, cells: table(map.root, given) });
  return map;
}

// Rows and columns of a map, made anew where cells with other values are planned.
function table(root, given) {
  root.querySelector("thead tr").replaceChildren(element("th", "learning rate"), ...given.sizes.map(size => element("th", `batch ${size}`)));
  const cells = given.rates.map(() => given.sizes.map(() => element("td")));
  root.querySelector("tbody").replaceChildren(...given.rates.map((rate, i) => {
    const row = element("tr");
    row.append(element("th", rate), ...cells[i]);
    return row;
  }));
  return cells;
}

function fill(map) {
  const chosen = map.select.value;
  for (const cell of map.given.cells) {
    const place = map.cells[cell.row][cell.column], score = cell.scores[chosen];
    place.className = cell.state;
    place.title = cell.about;
    place.style.setProperty("--shade", score ? `${Math.round(8 + 50 * score[1])}%` : "8%");
    place.replaceChildren(polyline(cell.curve, map.given.loss), element("b", score && cell.state !== "running" ? score[0] : cell.text));
  }
}

function showMap(given) {
  const map = mapOf(given), chosen = map.select.value;
  map.given = given;
  const names = given.benchmarks.map(one => one.name).join();
  if (names !== map.names) {
    map.names = names;
    map.select.replaceChildren(...given.benchmarks.map(one => new Option(`${one.label} (${one.better} is better)`, one.name)));
    if (chosen) map.select.value = chosen;
  }
  map.select.parentElement.hidden = !given.benchmarks.length;
  fill(map);
}

function showRunning(trials, rest) {
  const section = page.querySelector("section.running");
  section.hidden = !trials.length;
  section.querySelector(".rest").textContent = rest;
  if (!trials.length) return;
  const names = Object.keys(trials[0]).filter(name => trials.some(trial => trial[name]));
  section.querySelector("thead tr").replaceChildren(...names.map(name => element("th", name)));
  section.querySelector("tbody").replaceChildren(...trials.map(trial => {
    const row = element("tr");
    row.append(...names.map(name => element("td", trial[name], name === "reason" ? "text" : "")));
    return row;
  }));
}

function sweepState(given) {
  answered = Date.now();
  if (given.written !== last?.written) { alive = last !== null; changed = answered; }
  last = given;
  missed = 0;
  const done = (given.counts.ok ?? 0) + (given.counts.diverged ?? 0), bar = page.querySelector(".progress");
  bar.setAttribute("aria-valuenow", done);
  bar.setAttribute("aria-valuemax", given.total);
  bar.replaceChildren(...["ok", "diverged", "failed", "running"].map(state => {
    const part = element("i", "", state);
    part.style.width = `${100 * (given.counts[state] ?? 0) / given.total}%`;
    return part;
  }));
  if (given.stopped) page.querySelector("h1 span").textContent = "a sweep that was stopped";
  const words = { ok: "done", diverged: "diverged", failed: "failed", running: "running", planned: "planned" };
  page.querySelector(".counts").textContent = `${done} of ${given.total} trials ended: ` +
    Object.entries(given.counts).map(([state, count]) => `${count} ${words[state]}`).join(", ");
  page.querySelector(".lines").replaceChildren(...[...given.lines.slice(given.stopped ? 1 : 0), ...given.single].map(line => element("li", line)));
  const ids = given.maps.map(one => one.id);
  for (const [id, map] of maps) if (!ids.includes(id)) { map.root.remove(); maps.delete(id); }
  given.maps.forEach(showMap);
  showRunning(given.running, given.rest);
  if (given.surfaces !== shownSurfaces) ask("live_surfaces.js");
  sign();
}

async function sweepSurfaces(given) {
  shownSurfaces = last.surfaces;
  await plotly();
  for (const [id, surfaces] of Object.entries(given)) {
    const root = maps.get(id)?.root.querySelector(".explorer");
    if (!root) continue;
    root.hidden = false;
    if (root.explored) root.explored(surfaces);
    else root.explored = explore(root, surfaces);
  }
}

// Whether the run still gives a sign; what a browser knows and a dead driver cannot say. By this
// clock alone: that of the run may be ahead or behind.
function sign() {
  if (!last) return;
  const words = silent => silent < 60000 ? `${Math.round(silent / 1000)} s` : `${Math.round(silent / 60000)} min`;
  const note = page.querySelector(".note"), silent = answered - changed;
  page.querySelector(".sign").textContent = last.stopped ? "" : (alive ? "Last sign of the run: " : "No sign of the run yet, this page was opened ") + `${words(Date.now() - changed)} ago.`;
  const dead = !last.stopped && silent > SILENT ? `The run has given no sign for ${words(silent)}, and wrote this page on ${new Date(last.written).toLocaleString()}. If it was ended, the same command goes on from here.` : "";
  note.textContent = [last.stopped ? last.lines[0] : dead, last.warning].filter(Boolean).join(" ");
  note.hidden = !note.textContent;
}

setInterval(sign, 1000);
poll();
