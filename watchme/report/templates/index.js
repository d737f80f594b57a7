// The table of runs (sorted, filtered, chosen from) and the comparison of the chosen ones.
const runs = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const COLUMNS = [
  { title: "", key: null },
  { title: "Run", key: "title" },
  { title: "Status", key: "status" },
  { title: "Objective", key: "objective" },
  { title: "Value", key: "value", number: true },
  { title: "Best epoch", key: "best", number: true },
  { title: "Epochs", key: "epochs", number: true },
  { title: "Duration", key: "seconds", number: true },
  { title: "Started", key: "started" },
  { title: "Commit", key: "commit" },
];
const MOST = 8; // as many as there are colours
const state = { key: "started", down: true, text: "", chosen: [] };

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined && value !== false) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

function lasted(seconds) {
  if (seconds === null) return "–";
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

function compare(a, b) {
  const [x, y] = [a[state.key], b[state.key]];
  // What is missing stands last, whichever way one sorts.
  if (x === null || y === null) return (x === null) - (y === null);
  const order = typeof x === "number" ? x - y : String(x).localeCompare(String(y));
  return state.down ? -order : order;
}

function visible() {
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  return runs
    .filter((run) => words.every((word) => `${run.title} ${run.status} ${run.folder} ${run.study ?? ""}`.toLowerCase().includes(word)))
    .sort(compare);
}

function drawHead() {
  const row = element("tr");
  for (const column of COLUMNS) {
    const sorted = column.key && column.key === state.key;
    const cell = element("th", { class: column.number && "number", "aria-sort": sorted ? (state.down ? "descending" : "ascending") : undefined, scope: "col" });
    if (column.key) {
      const button = element("button", { type: "button" }, column.title);
      button.addEventListener("click", () => {
        state.down = column.key === state.key ? !state.down : Boolean(column.number) || column.key === "started";
        state.key = column.key;
        draw();
      });
      cell.append(button);
    }
    row.append(cell);
  }
  byId("runs").tHead.replaceChildren(row);
}

function drawRow(run) {
  const chosen = state.chosen.includes(run);
  const box = element("input", { type: "checkbox", "aria-label": `Compare ${run.folder}` });
  box.checked = chosen;
  box.disabled = !chosen && state.chosen.length >= MOST;
  box.addEventListener("change", () => {
    state.chosen = box.checked ? [...state.chosen, run] : state.chosen.filter((other) => other !== run);
    draw();
  });
  const name = run.link ? element("a", { href: run.link }, run.title) : run.title;
  return element(
    "tr",
    { class: chosen && "chosen" },
    element("td", {}, box),
    element("td", { class: "name" }, name, element("div", { class: "soft mono" }, run.folder)),
    element("td", {}, element("span", { class: `pill ${run.status}` }, run.status)),
    element("td", { class: "mono" }, run.objective),
    element("td", { class: "number" }, format(run.value)),
    element("td", { class: "number" }, format(run.best)),
    element("td", { class: "number" }, format(run.epochs)),
    element("td", { class: "number" }, lasted(run.seconds)),
    element("td", {}, run.started.slice(0, 16).replace("T", " ")),
    element("td", { class: "mono soft" }, run.commit),
  );
}

function ticks(low, high) {
  if (high <= low) [low, high] = [low - Math.abs(low) * 0.1, high + (Math.abs(low) * 0.1 || 1)];
  const raw = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999);
  const found = [];
  for (let index = Math.floor(low / step + 1e-9); index <= Math.ceil(high / step - 1e-9); index++) found.push(index * step);
  return found;
}

function svg(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// The same chart as charts.py draws for one run.
function chart(title, series) {
  const [width, height, left, right, top, bottom] = [400, 206, 44, 392, 8, 182];
  const points = series.flatMap((line) => line.points);
  const from = Math.min(...points.map(([x]) => x));
  const to = Math.max(...points.map(([x]) => x));
  const values = points.map(([, y]) => y);
  const marks = ticks(Math.min(...values), Math.max(...values));
  const [low, high] = [Math.min(marks[0], ...values), Math.max(marks.at(-1), ...values)];
  const x = (epoch) => left + ((epoch - from) / (to - from || 1)) * (right - left);
  const y = (value) => bottom - ((value - low) / (high - low || 1)) * (bottom - top);
  const drawing = svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title} over epochs` });
  drawing.dataset.chart = JSON.stringify({ width, left, right, from, to, series });
  for (const mark of marks) {
    drawing.append(svg("line", { class: "grid", x1: left, x2: right, y1: y(mark), y2: y(mark) }));
    drawing.append(svg("text", { x: left - 6, y: y(mark) + 4, "text-anchor": "end" }, Number(mark.toPrecision(3))));
  }
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((size) => (to - from) / size <= 8) ?? 5000;
  for (let epoch = Math.ceil(from / step) * step; epoch <= to; epoch += step)
    drawing.append(svg("text", { x: x(epoch), y: bottom + 16, "text-anchor": "middle" }, epoch));
  drawing.append(svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
  for (const line of series) {
    const path = line.points.map(([epoch, value]) => `${x(epoch).toFixed(1)},${y(value).toFixed(1)}`).join("L");
    drawing.append(svg("path", { class: "line", d: `M${path}`, style: `stroke:var(--c${line.colour})` }));
    if (line.points.length <= 40)
      for (const [epoch, value] of line.points) drawing.append(svg("circle", { cx: x(epoch), cy: y(value), r: 2.2, style: `fill:var(--c${line.colour})` }));
  }
  drawing.append(svg("line", { class: "cursor", y1: top, y2: bottom }));
  return element("figure", {}, element("h3", {}, title), drawing);
}

function drawTable(target, head, rows, numbers) {
  const cells = (tag, row) => row.map((cell, index) => element(tag, { class: index && numbers ? "number" : "wrap" }, cell));
  const body = rows.map((row) => element("tr", {}, ...cells("td", row)));
  target.replaceChildren(element("table", {}, element("thead", {}, element("tr", {}, ...cells("th", head))), element("tbody", {}, ...body)));
}

function drawComparison() {
  const chosen = state.chosen;
  byId("compare").hidden = chosen.length === 0;
  byId("clear").disabled = chosen.length === 0;
  if (chosen.length === 0) return;
  const named = chosen.map((run) => (chosen.filter((other) => other.title === run.title).length > 1 ? `${run.title} (${run.short})` : run.title));
  const heads = chosen.map((run, index) => element("span", {}, element("i", { style: `background:var(--c${index})` }), named[index]));
  byId("chosen").replaceChildren(...heads);
  const sorted = (names) => [...new Set(names)].sort();
  const metrics = sorted(chosen.flatMap((run) => Object.keys(run.metrics)));
  drawTable(byId("finals"), ["metric", ...named], metrics.map((name) => [name, ...chosen.map((run) => format(run.metrics[name]))]), true);
  const objectives = new Set(chosen.map((run) => run.objective));
  const rank = (name) => (objectives.has(name) ? 0 : name.startsWith("val/") ? 1 : name.startsWith("train/") ? 2 : 3);
  const names = sorted(chosen.flatMap((run) => Object.keys(run.series))).sort((a, b) => rank(a) - rank(b));
  const charts = names.map((name) => {
    const series = chosen.map((run, index) => ({ label: named[index], colour: index, points: run.series[name] ?? [] }));
    return chart(name, series.filter((line) => line.points.length));
  });
  byId("curves").replaceChildren(...charts);
  const keys = sorted(chosen.flatMap((run) => Object.keys(run.config)));
  const differing = keys.filter((key) => new Set(chosen.map((run) => run.config[key] ?? "–")).size > 1);
  const rows = differing.map((key) => [element("span", { class: "mono" }, key), ...chosen.map((run) => run.config[key] ?? "–")]);
  if (rows.length) drawTable(byId("diff"), ["key", ...named], rows, false);
  else byId("diff").replaceChildren(element("p", { class: "soft" }, chosen.length > 1 ? "The configs are the same." : "Choose a second run to see what differs."));
}

// The choice stands in the address, so that a comparison can be kept as a bookmark or passed on.
function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1)).getAll("run");
  state.chosen = wanted.map((folder) => runs.find((run) => run.folder === folder)).filter(Boolean).slice(0, MOST);
}

function writeAddress() {
  const wanted = new URLSearchParams(state.chosen.map((run) => ["run", run.folder])).toString();
  if (wanted !== location.hash.slice(1)) history.replaceState(null, "", `#${wanted}`);
}

function draw() {
  const shown = visible();
  drawHead();
  byId("runs").tBodies[0].replaceChildren(...shown.map(drawRow));
  byId("count").textContent = shown.length === runs.length ? `${runs.length} runs` : `${shown.length} of ${runs.length} runs`;
  drawComparison();
  writeAddress();
}

byId("filter").addEventListener("input", (event) => {
  state.text = event.target.value;
  draw();
});
byId("clear").addEventListener("click", () => {
  state.chosen = [];
  draw();
});
byId("best").addEventListener("click", () => {
  // The best of the objective that most of the visible runs share.
  const shown = visible().filter((run) => run.value !== null);
  const counts = new Map();
  for (const run of shown) counts.set(run.objective, (counts.get(run.objective) ?? 0) + 1);
  const [objective] = [...counts].sort((a, b) => b[1] - a[1])[0] ?? [null];
  const same = shown.filter((run) => run.objective === objective);
  state.chosen = same.sort((a, b) => (a.higher ? b.value - a.value : a.value - b.value)).slice(0, 3);
  draw();
});
window.addEventListener("hashchange", () => {
  readAddress();
  draw();
});
readAddress();
draw();
