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

function compare(a, b) {
  const [x, y] = [a[state.key], b[state.key]];
  // Missing values come last in both directions.
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
    element("td", { class: "number" }, run.duration),
    element("td", {}, run.started.slice(0, 16).replace("T", " ")),
    element("td", { class: "mono soft" }, run.commit),
  );
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
    return drawChart({ title: name, series: series.filter((line) => line.points.length), legend: false });
  });
  byId("curves").replaceChildren(...charts);
  const keys = sorted(chosen.flatMap((run) => Object.keys(run.config)));
  const differing = keys.filter((key) => new Set(chosen.map((run) => run.config[key] ?? "–")).size > 1);
  const rows = differing.map((key) => [element("span", { class: "mono" }, key), ...chosen.map((run) => run.config[key] ?? "–")]);
  if (rows.length) drawTable(byId("diff"), ["key", ...named], rows, false);
  else byId("diff").replaceChildren(element("p", { class: "soft" }, chosen.length > 1 ? "The configs are the same." : "Choose a second run to see what differs."));
}

// The choice is in the address, so that a comparison can be bookmarked or passed on.
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
