// Plots of a study: every trial, learning curves, parallel coordinates with ranges to drag, and each parameter.
// Points and lines open the report of their trial; a range dragged on an axis fades all other trials everywhere.
const study = JSON.parse(document.getElementById("study").textContent);
const [objective, ...others] = study.objectives;
const measured = study.trials.filter((trial) => valueOf(trial, objective) !== null);
const best = new Set(study.best);
const ranges = new Map();
const LETTER = 6.4; // width of a digit in the units of a plot, at most
const PARALLEL = { step: 150, left: 70, right: 60, top: 24, bottom: 250, height: 280 };

// Of an objective or a parameter; null where the trial has none.
function valueOf(trial, name) {
  const place = study.objectives.indexOf(name);
  return (place < 0 ? trial.params[name] : trial.values[place]) ?? null;
}

function colour(trial) {
  return best.has(trial.number) ? "var(--c5)" : { pruned: "var(--c4)", failed: "var(--c1)" }[trial.state] ?? "var(--c0)";
}

function describe(trial) {
  const settings = Object.entries(trial.params).map(([name, value]) => `${name} ${typeof value === "number" ? format(value) : value}`);
  const reached = study.objectives.map((name) => `${name} ${format(valueOf(trial, name))}`);
  return [`trial ${trial.number}: ${trial.state}`, ...reached, ...settings, ...(trial.reason ? [trial.reason.slice(0, 160)] : [])];
}

function pointAt(event, trial) {
  tip.replaceChildren(...describe(trial).map((line) => element("div", {}, line)));
  tip.style.visibility = "visible";
  const room = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(0, Math.min(event.clientX + 14, window.innerWidth - room.width - 8))}px`;
  tip.style.top = `${Math.max(8, event.clientY - room.height - 12)}px`;
  for (const other of document.querySelectorAll("[data-trial]")) other.classList.toggle("on", other.dataset.trial === String(trial.number));
}

// What stands for a trial in a plot: a link to its report, with its values on hover.
function mark(trial, ...shapes) {
  const about = { "data-trial": trial.number, "aria-label": describe(trial).join(", ") };
  const made = trial.link ? svg("a", { href: trial.link, ...about }, ...shapes) : svg("g", { role: "img", tabindex: 0, ...about }, ...shapes);
  const leave = () => {
    tip.style.visibility = "hidden";
    for (const other of document.querySelectorAll(".on")) other.classList.remove("on");
  };
  made.addEventListener("pointermove", (event) => pointAt(event, trial));
  made.addEventListener("pointerleave", leave);
  made.addEventListener("focus", () => {
    const box = made.getBoundingClientRect();
    pointAt({ clientX: box.right, clientY: box.top }, trial);
  });
  made.addEventListener("blur", leave);
  return made;
}

function dot(trial, x, y) {
  if (trial.state === "complete") return mark(trial, svg("circle", { cx: x, cy: y, r: best.has(trial.number) ? 5.5 : 4, style: `fill:${colour(trial)}` }));
  const cross = `M${x - 4},${y - 4}L${x + 4},${y + 4}M${x - 4},${y + 4}L${x + 4},${y - 4}`;
  return mark(trial, svg("circle", { cx: x, cy: y, r: 5, class: "target" }), svg("path", { d: cross, style: `stroke:${colour(trial)};stroke-width:2` }));
}

// The best on top of what lies at the same place.
function bestLast(trials) {
  return [...trials].sort((a, b) => best.has(a.number) - best.has(b.number));
}

// The end of a long choice says more than its start, as of a path.
function shortened(label, most) {
  return label.length > most ? `…${label.slice(1 - most)}` : label;
}

// Labels below an axis, less those that would run into the one before.
function labelsBelow(ticks, x) {
  let end = -Infinity;
  return [...ticks].sort(([a], [b]) => a - b).flatMap(([place, label]) => {
    const half = (label.length * LETTER) / 2;
    if (x(place) - half < end) return [];
    end = x(place) + half + LETTER;
    return [svg("text", { x: x(place), y: AREA.bottom + 16, "text-anchor": "middle" }, label)];
  });
}

function plot(title, label, ...parts) {
  const drawing = svg("svg", { class: "chart", viewBox: `0 0 ${AREA.width} ${AREA.height}`, role: "group", "aria-label": label }, ...parts);
  return element("figure", {}, element("h3", {}, title), drawing);
}

function history() {
  const points = measured.map((trial) => [trial.number, valueOf(trial, objective)]);
  const area = scales([{ points }], false);
  const steps = [];
  for (const [index, [number, value]] of points.entries()) {
    if (measured[index].state !== "complete") continue;
    const before = steps.length ? steps.at(-1)[1] : value;
    steps.push([number, study.maximize ? Math.max(before, value) : Math.min(before, value)]);
  }
  if (steps.length) steps.push([area.to, steps.at(-1)[1]]);
  const line = steps.map(([number, value], index) => (index ? `H${area.x(number)}V${area.y(value)}` : `M${area.x(number)},${area.y(value)}`)).join("");
  return plot(
    `Every trial: ${objective}, best so far`,
    "Objective over trials",
    ...axes(area),
    svg("path", { class: "line", d: line || "M0,0", style: "stroke:var(--c5)" }),
    ...bestLast(measured).map((trial) => dot(trial, area.x(trial.number), area.y(valueOf(trial, objective)))),
  );
}

function learning() {
  const shown = study.trials.filter((trial) => trial.curve.length);
  if (!shown.some((trial) => trial.curve.length > 1)) return null;
  const area = scales(shown.map((trial) => ({ points: trial.curve })), false);
  const lines = bestLast(shown).map((trial) => {
    const end = trial.curve.at(-1);
    const style = `stroke:${colour(trial)};stroke-width:${best.has(trial.number) ? 2.6 : 1.4}`;
    return mark(trial, svg("path", { class: "line", d: path(trial.curve, area), style }), svg("circle", { cx: area.x(end[0]), cy: area.y(end[1]), r: 2.5, style: `fill:${colour(trial)}` }));
  });
  return plot("Learning curves", "Objective over epochs, one line a trial", ...axes(area), ...lines);
}

// Where a value is on its axis, from 0 to 1, and the labels there: choices in at most so many letters.
function axisOf(name, most) {
  const values = measured.map((trial) => valueOf(trial, name)).filter((value) => value !== null);
  if (!values.every((value) => typeof value === "number")) {
    const choices = [...new Set(values.map(String))].sort();
    const place = (value) => (choices.indexOf(String(value)) + 0.5) / choices.length;
    return { name, place, ticks: choices.map((choice) => [place(choice), shortened(choice, most(choices.length))]) };
  }
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const log = study.log.includes(name) && low > 0;
  const scale = log ? Math.log10 : (value) => value;
  const place = (value) => (high > low ? (scale(value) - scale(low)) / (scale(high) - scale(low)) : 0.5);
  const distinct = [...new Set(values)];
  const few = (study.choices.includes(name) || values.every(Number.isInteger)) && distinct.length <= 6;
  const inside = few ? distinct : (log ? logTicks(low, high) : valueTicks(low, high)).filter((tick) => tick >= low && tick <= high);
  return { name, place, ticks: (inside.length ? inside : [low]).map((tick) => [place(tick), tickLabel(tick)]) };
}

// The objective of trials over a parameter or over another objective, for which the Pareto front is drawn in.
function against(name) {
  const axis = axisOf(name, (count) => Math.max(3, Math.floor((AREA.right - AREA.left - 24) / count / LETTER) - 1));
  const shown = measured.filter((trial) => valueOf(trial, name) !== null);
  const area = scales([{ points: shown.map((trial) => [0, valueOf(trial, objective)]) }], false);
  const x = (place) => AREA.left + 12 + place * (AREA.right - AREA.left - 24);
  const at = (trial) => [x(axis.place(valueOf(trial, name))), area.y(valueOf(trial, objective))];
  const grid = axes({ ...area, from: 1, to: 0 });
  const front = others.length === 1 && name === others[0] ? shown.filter((trial) => best.has(trial.number)).map(at).sort(([a], [b]) => a - b) : [];
  const line = front.length ? [svg("path", { class: "line", d: `M${front.join("L")}`, style: "stroke:var(--c5)" })] : [];
  const title = others.includes(name) ? `${objective} over ${name}` : name;
  return plot(title, `${objective} over ${name}`, ...grid, ...labelsBelow(axis.ticks, x), ...line, ...bestLast(shown).map((trial) => dot(trial, ...at(trial))));
}

function parallel() {
  const found = [...study.parameters, ...others, objective].map((name) => axisOf(name, () => 18));
  // As wide as the page where it has room; else it scrolls.
  const room = document.getElementById("plots").clientWidth - 30 - PARALLEL.left - PARALLEL.right;
  const step = Math.max(PARALLEL.step, room / (found.length - 1));
  const width = PARALLEL.left + (found.length - 1) * step + PARALLEL.right;
  const x = (index) => PARALLEL.left + index * step;
  const y = (place) => PARALLEL.bottom - place * (PARALLEL.bottom - PARALLEL.top);
  const goal = found.at(-1);
  const lines = bestLast(measured).map((trial) => {
    const values = found.map((axis) => valueOf(trial, axis.name));
    const points = values.map((value, index) => (value === null ? null : `${x(index)},${y(found[index].place(value))}`)).filter(Boolean);
    const place = goal.place(valueOf(trial, objective));
    const share = study.maximize ? place : 1 - place;
    return mark(trial, svg("path", { class: "line", d: `M${points.join("L")}`, style: `stroke:${colour(trial)};stroke-opacity:${0.25 + 0.75 * share};stroke-width:${1 + 1.6 * share}` }));
  });
  const drawing = svg("svg", { class: "chart parallel", viewBox: `0 0 ${width} ${PARALLEL.height}`, style: `width:${width}px`, role: "group", "aria-label": "Parallel coordinates" }, ...lines);
  found.forEach((axis, index) => {
    const brush = svg("rect", { class: "brush", x: x(index) - 8, width: 16, y: 0, height: 0 });
    const help = `${axis.name}: Enter keeps the upper half, the lower half, everything`;
    const target = svg("rect", { class: "target", tabindex: 0, role: "button", "aria-label": help, x: x(index) - 16, width: 32, y: PARALLEL.top - 8, height: PARALLEL.bottom - PARALLEL.top + 16 });
    const place = (event) => {
      const box = drawing.getBoundingClientRect();
      return Math.min(1, Math.max(0, (PARALLEL.bottom - ((event.clientY - box.top) / box.height) * PARALLEL.height) / (PARALLEL.bottom - PARALLEL.top)));
    };
    const keep = (low, high) => {
      if (high - low < 0.02) ranges.delete(axis.name);
      else ranges.set(axis.name, (value) => axis.place(value) >= low && axis.place(value) <= high);
      brush.setAttribute("y", y(high));
      brush.setAttribute("height", high - low < 0.02 ? 0 : y(low) - y(high));
      fade();
    };
    let start = null;
    let half = 0;
    target.addEventListener("pointerdown", (event) => {
      start = place(event);
      target.setPointerCapture(event.pointerId);
    });
    target.addEventListener("pointermove", (event) => start !== null && keep(...[start, place(event)].sort((a, b) => a - b)));
    target.addEventListener("pointerup", (event) => {
      if (start !== null && Math.abs(place(event) - start) < 0.02) keep(0, 0);
      start = null;
    });
    target.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      half = (half + 1) % 3;
      keep(...[[0, 0], [0.5, 1], [0, 0.5]][half]);
    });
    // Left of its axis, that of the objective on its free side.
    const last = index === found.length - 1;
    const beside = last ? { x: x(index) + 8 } : { x: x(index) - 8, "text-anchor": "end" };
    const labels = axis.ticks.map(([at, label]) => svg("text", { ...beside, y: y(at) + 4 }, label));
    const name = svg("text", { x: x(index), y: PARALLEL.bottom + 22, "text-anchor": "middle" }, axis.name.split(".").at(-1), svg("title", {}, axis.name));
    drawing.append(svg("line", { class: "axis", x1: x(index), x2: x(index), y1: PARALLEL.top, y2: PARALLEL.bottom }), ...labels, name, brush, target);
  });
  return element("figure", { class: "wide" }, element("h3", {}, "Parallel coordinates: drag along an axis to keep a range, click it to clear"), element("div", { class: "scroll", tabindex: 0 }, drawing));
}

function fade() {
  const kept = (trial) => [...ranges].every(([name, within]) => valueOf(trial, name) !== null && within(valueOf(trial, name)));
  const out = new Set(study.trials.filter((trial) => !kept(trial)).map((trial) => String(trial.number)));
  for (const item of document.querySelectorAll("[data-trial]")) item.classList.toggle("out", out.has(item.dataset.trial));
}

if (measured.length) {
  document.getElementById("plots").replaceChildren(...[history(), learning()].filter(Boolean), ...[...others, ...study.parameters].map(against));
  if (study.parameters.length) document.getElementById("plots").after(parallel());
}
