// The table of runs (sorted, filtered, chosen from) and the comparison of the chosen ones.
let runs = JSON.parse(document.getElementById("data").textContent);
const meanings = JSON.parse(document.getElementById("meanings").textContent);
const byId = (id) => document.getElementById(id);
const MOST = 8; // as many as there are colours
const MOST_SETTINGS = 5;
const MOST_LETTERS = 32;
const state = { key: "started", down: true, text: "", chosen: [], open: new Set() };

const FIXED = [
  { title: "Run", key: "title" },
  { title: "Status", key: "status" },
  { title: "Objective", key: "ranking" },
  { title: "Value", key: "value", number: true },
  { title: "Best epoch", key: "best", number: true },
  { title: "Epochs", key: "epochs", number: true },
  { title: "Duration", key: "seconds", number: true },
  { title: "Started", key: "started" },
  { title: "Seed", key: "seed", number: true },
];

// Settings in which the runs that are shown differ: those first that all of them have.
const SECTIONS = ["optimizer", "train", "scheduler", "augmentation", "loss", "model", "dataset"];
const NOUNS = { train: ["training", "trainings"], evaluate: ["evaluation", "evaluations"], search: ["search", "searches"] };
const NOT_SETTINGS = /^(train\.(seed|resume|engine|device)|model\.(name|engine|family\.)|dataset\.(name|root|task))|\.engine$/;

function settings(found) {
  const trainings = found.filter((run) => run.mode === "train");
  const shown = trainings.length ? trainings : found;
  const keys = [...new Set(shown.flatMap((run) => Object.keys(run.config)))];
  const differing = keys.filter((key) => SECTIONS.includes(key.split(".")[0]) && !NOT_SETTINGS.test(key) && new Set(shown.map((run) => run.config[key] ?? "null")).size > 1);
  const rank = (key) => shown.filter((run) => !(key in run.config)).length * 10 + SECTIONS.indexOf(key.split(".")[0]);
  return differing.sort((a, b) => rank(a) - rank(b)).slice(0, MOST_SETTINGS);
}

// `lr` of `optimizer.lr`; the section of a name.
function short(key) {
  const parts = key.split(".");
  return parts.at(-1) === "name" ? parts.at(-2) : parts.at(-1);
}

// A setting as text; four digits tell drawn ones apart. What is no training has a config, but does not use all of it.
function setting(run, key) {
  const used = run.mode === "train" || ["model", "dataset"].includes(key.split(".")[0]);
  const value = (used ? run.config[key] : null) ?? "–";
  return /^\d*\.\d{5,}$/.test(value) ? String(Number(Number(value).toPrecision(4))) : value;
}

function valueOf(run, key) {
  const value = key.startsWith("config:") ? run.config[key.slice(7)] : run[key];
  return value !== null && value !== "" && key.startsWith("config:") && !Number.isNaN(Number(value)) ? Number(value) : (value ?? null);
}

function compare(a, b) {
  // Values are ranked only among runs with the same objective on the same split of the same dataset.
  if (state.key === "value" && a.ranking !== b.ranking) return a.ranking.localeCompare(b.ranking);
  const [x, y] = [valueOf(a, state.key), valueOf(b, state.key)];
  // Missing values come last in both directions.
  if (x === null || y === null) return (x === null) - (y === null);
  const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
  return state.down ? -order : order;
}

function matching() {
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (run) => `${run.title} ${run.status} ${run.folder} ${run.study ?? ""} ${run.tags.join(" ")} ${run.objective}`.toLowerCase();
  return runs.filter((run) => words.every((word) => text(run).includes(word))).sort(compare);
}

// Evaluations, exports, checks and trials come under their training or sweep, folded until it is opened; a filter shows
// all. A sweep stands where the first of its trials would.
function rows(found) {
  if (state.text) return found.map((run) => ({ run, depth: 0 }));
  const folders = new Set(found.map((run) => run.folder));
  const children = (folder) => found.filter((run) => run.parent === folder);
  const opened = (folder, inside, depth) => (state.open.has(folder) ? inside.flatMap((run) => nested(run, depth)) : []);
  const nested = (run, depth) => {
    const inside = children(run.folder);
    return [{ run, inside, depth }, ...opened(run.folder, inside, depth + 1)];
  };
  const top = found.filter((run) => !run.parent || (!run.study && !folders.has(run.parent)));
  const sweeps = [...new Set(found.filter((run) => run.study && run.parent && !folders.has(run.parent)).map((run) => run.parent))];
  const entries = [...top.map((run) => ({ first: run, rows: nested(run, 0) })), ...sweeps.map((sweep) => ({ first: children(sweep)[0], rows: [{ sweep, inside: children(sweep) }, ...opened(sweep, children(sweep), 1)] }))];
  return entries.sort((a, b) => compare(a.first, b.first)).flatMap((entry) => entry.rows);
}

function fold(folder, inside) {
  if (!inside?.length) return null;
  const open = state.open.has(folder);
  const counts = new Map();
  for (const run of inside) counts.set(run.study ? "trial" : run.mode, (counts.get(run.study ? "trial" : run.mode) ?? 0) + 1);
  const kinds = [...counts].map(([kind, count]) => `${count} ${(NOUNS[kind] ?? [kind, `${kind}s`])[count === 1 ? 0 : 1]}`).join(", ");
  const button = element("button", { type: "button", class: "fold", "aria-expanded": String(open) }, `${open ? "▾" : "▸"} ${kinds}`);
  button.addEventListener("click", () => {
    if (open) state.open.delete(folder);
    else state.open.add(folder);
    draw();
  });
  return button;
}

function drawHead(columns) {
  const cells = columns.map((column) => {
    const sorted = column.key === state.key;
    const button = element("button", { type: "button", title: column.hint }, column.title);
    button.addEventListener("click", () => {
      state.down = sorted ? !state.down : Boolean(column.number) || column.key === "started";
      state.key = column.key;
      draw();
    });
    return element("th", { class: column.number && "number", "aria-sort": sorted ? (state.down ? "descending" : "ascending") : undefined, scope: "col" }, button);
  });
  byId("runs").tHead.replaceChildren(element("tr", {}, element("th", {}, element("span", { class: "hidden" }, "Compare")), ...cells));
}

function drawRow({ run, sweep, inside, depth }, extra) {
  if (sweep !== undefined) {
    const { study, sweep: page } = inside[0];
    const name = element("td", { class: "name", colspan: FIXED.length + extra.length }, page ? element("a", { href: page }, element("b", {}, study)) : element("b", {}, study), " ", fold(sweep, inside), element("div", { class: "soft mono" }, sweep));
    return element("tr", { class: "sweep" }, element("td", {}), name);
  }
  const chosen = state.chosen.includes(run);
  const box = element("input", { type: "checkbox", "aria-label": `Compare ${run.folder}` });
  box.checked = chosen;
  box.disabled = !chosen && state.chosen.length >= MOST;
  box.addEventListener("change", () => {
    state.chosen = box.checked ? [...state.chosen, run] : state.chosen.filter((other) => other !== run);
    draw();
  });
  const name = run.link ? element("a", { href: run.link }, run.title) : run.title;
  const tags = run.tags.map((tag) => element("span", { class: "tag" }, tag));
  const value = run.value ?? run.last;
  return element(
    "tr",
    { class: chosen ? "chosen" : undefined },
    element("td", {}, box),
    element("td", { class: "name", style: depth ? `padding-left:${22 * depth}px` : undefined }, name, " ", ...tags, " ", fold(run.folder, inside), element("div", { class: "soft mono" }, run.folder)),
    element("td", { class: "status" }, element("span", { class: `pill ${run.status}` }, run.status), run.reason && element("div", { class: "reason" }, run.reason)),
    element("td", {}, element("span", { class: "mono" }, run.objective || "–"), element("div", { class: "soft" }, run.dataset)),
    element("td", { class: "number" }, measure(value), run.value === null && value !== null ? element("div", { class: "soft" }, "last") : null),
    element("td", { class: "number" }, format(run.best)),
    element("td", { class: "number" }, format(run.epochs || null)),
    element("td", { class: "number" }, run.duration),
    element("td", {}, run.started.slice(0, 16).replace("T", " ")),
    element("td", { class: "number" }, format(run.seed)),
    ...extra.map((key) => settingCell(setting(run, key))),
  );
}

// A long value would push the other columns away; the comparison shows it whole.
function settingCell(value) {
  const isLong = value.length > MOST_LETTERS;
  return element("td", { class: "number", title: isLong && value }, isLong ? `${value.slice(0, MOST_LETTERS)}…` : value);
}

// The choice is in the address, so that a comparison can be bookmarked or passed on.
function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1)).getAll("run");
  state.chosen = wanted.map((folder) => runs.find((run) => run.folder === folder)).filter(Boolean).slice(0, MOST);
  for (const run of state.chosen) if (run.parent) state.open.add(run.parent);
}

function writeAddress() {
  const wanted = new URLSearchParams(state.chosen.map((run) => ["run", run.folder])).toString();
  if (wanted !== location.hash.slice(1)) history.replaceState(null, "", `#${wanted}`);
}

function draw() {
  const found = matching();
  const extra = settings(found);
  drawHead([...FIXED, ...extra.map((key) => ({ title: short(key), hint: key, key: `config:${key}`, number: true }))]);
  byId("runs").tBodies[0].replaceChildren(...rows(found).map((row) => drawRow(row, extra)));
  byId("count").textContent = `${found.length === runs.length ? "" : `${found.length} of `}${runs.length} ${runs.length === 1 ? "run" : "runs"}`;
  drawComparison();
  writeAddress();
}

function csv() {
  const found = matching();
  const metrics = [...new Set(found.flatMap((run) => Object.keys(run.metrics)))].sort();
  const keys = [...new Set(found.flatMap((run) => Object.keys(run.config)))].sort();
  const fixed = ["folder", "title", "mode", "status", "reason", "dataset", "objective", "value", "best", "epochs", "seconds", "started", "seed", "commit"];
  const lines = [[...fixed, ...metrics, ...keys], ...found.map((run) => [...fixed.map((key) => run[key]), ...metrics.map((name) => run.metrics[name]), ...keys.map((key) => run.config[key])])];
  const cell = (value) => (/[",\r\n]/.test(String(value ?? "")) ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? ""));
  return lines.map((line) => line.map(cell).join(",")).join("\n") + "\n";
}

byId("filter").addEventListener("input", (event) => {
  state.text = event.target.value;
  draw();
});
byId("clear").addEventListener("click", () => {
  state.chosen = [];
  draw();
});
byId("csv").addEventListener("click", () => {
  const text = csv();
  const link = element("a", { href: `data:text/csv;charset=utf-8,${encodeURIComponent(text.toWellFormed?.() ?? text)}`, download: "runs.csv" });
  link.click();
});
byId("best").addEventListener("click", () => {
  // The best of the largest group of visible runs that can be ranked: finished, of one objective, split and dataset.
  const shown = matching().filter((run) => run.value !== null && run.status === "finished");
  const counts = new Map();
  for (const run of shown) counts.set(run.ranking, (counts.get(run.ranking) ?? 0) + 1);
  const [ranking] = [...counts].sort((a, b) => b[1] - a[1])[0] ?? [null];
  const same = shown.filter((run) => run.ranking === ranking);
  state.chosen = same.sort((a, b) => (a.higher ? b.value - a.value : a.value - b.value)).slice(0, 3);
  for (const run of state.chosen) if (run.parent) state.open.add(run.parent);
  draw();
});
window.addEventListener("hashchange", () => {
  readAddress();
  draw();
});
readAddress();
draw();

// Served by `--serve`: take over what has changed, without losing filter and choice.
async function refresh() {
  const answer = await fetch("runs.json").catch(() => null);
  if (!answer?.ok) return;
  const text = await answer.text();
  if (text === refresh.last) return;
  refresh.last = text;
  const folders = state.chosen.map((run) => run.folder);
  runs = JSON.parse(text);
  state.chosen = folders.map((folder) => runs.find((run) => run.folder === folder)).filter(Boolean);
  draw();
}
if (document.body.dataset.served) setInterval(refresh, 5000);
