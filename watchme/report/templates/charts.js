// Line charts. An element with data-charts, a JSON list of {title, axis, best, series: [{label, colour, points}]}, is
// filled with one figure for each; index.js draws comparisons with the same functions.
"use strict";
const AREA = { width: 400, height: 206, left: 44, right: 392, top: 8, bottom: 182 };
const DOTS_UP_TO = 40;
const tip = element("div", { class: "tip" });
document.body.append(tip);

function element(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function build(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined && value !== false && value !== null) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

function format(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 0.001 || size >= 1e6) ? value.toExponential(2) : size >= 100 ? value.toFixed(1) : value.toFixed(4);
}

// A metric: 0 and 1 have the digits of the values around them, as on the report of the run.
function measure(value) {
  return Number.isInteger(value) && Math.abs(value) < 10 ? value.toFixed(4) : format(value);
}

// Round numbers that span low to high.
function valueTicks(low, high) {
  // A metric that is 0 throughout is drawn on the axis.
  if (high <= low) [low, high] = [low - Math.abs(low) * 0.1, high + (Math.abs(low) * 0.1 || 1)];
  const raw = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999);
  const found = [];
  for (let index = Math.floor(low / step + 1e-9); index <= Math.ceil(high / step - 1e-9); index++) found.push(index * step);
  return found;
}

// Whole epochs, multiples of a round number.
function epochTicks(first, last) {
  const step = [0, 1, 2, 3, 4, 5, 6].flatMap((power) => [1, 2, 5].map((factor) => factor * 10 ** power)).find((size) => (last - first) / size <= 8);
  const found = [];
  for (let epoch = Math.ceil(first / step) * step; epoch <= last; epoch += step) found.push(epoch);
  return found;
}

function tickLabel(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e5)) return Number(value.toPrecision(3)).toExponential();
  return String(Number(size < 0.01 ? value.toPrecision(3) : value.toFixed(4)));
}

// Powers of ten and their doubles and fives, as the range has room for.
function logTicks(low, high) {
  const powers = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) powers.push(power);
  const factors = powers.length > 4 ? [1] : [1, 2, 5];
  const found = powers.flatMap((power) => factors.map((factor) => factor * 10 ** power));
  const below = found.filter((tick) => tick <= low).slice(-1);
  const above = found.filter((tick) => tick >= high).slice(0, 1);
  return [...below, ...found.filter((tick) => tick > low && tick < high), ...above];
}

// Extent of many numbers; spread arguments have a limit.
function extent(numbers) {
  return numbers.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

// `shared` gives ranges that several charts have in common: {epochs, values}.
function scales(series, log, shared = {}) {
  const points = series.flatMap((line) => line.points);
  const [from, to] = shared.epochs ?? extent(points.map(([epoch]) => epoch));
  const values = shared.values ?? extent(points.map(([, value]) => value));
  const logarithmic = log && values[0] > 0;
  const ticks = (logarithmic ? logTicks : valueTicks)(...values);
  const place = logarithmic ? Math.log10 : (value) => value;
  const [low, high] = [place(Math.min(ticks[0], values[0])), place(Math.max(ticks.at(-1), values[1]))];
  return {
    from,
    to,
    ticks,
    x: (epoch) => AREA.left + ((epoch - from) / (to - from || 1)) * (AREA.right - AREA.left),
    y: (value) => AREA.bottom - ((place(value) - low) / (high - low || 1)) * (AREA.bottom - AREA.top),
    epochAt: (x) => from + ((x - AREA.left) / (AREA.right - AREA.left)) * (to - from),
  };
}

function axes({ from, to, ticks, x, y }, best) {
  const { left, right, top, bottom } = AREA;
  const parts = ticks.flatMap((tick) => [
    svg("line", { class: "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) }),
    svg("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, tickLabel(tick)),
  ]);
  for (const epoch of epochTicks(from, to)) parts.push(svg("text", { x: x(epoch), y: bottom + 16, "text-anchor": "middle" }, String(epoch)));
  parts.push(svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
  if (typeof best === "number" && best >= from && best <= to)
    parts.push(svg("line", { class: "best", x1: x(best), x2: x(best), y1: top, y2: bottom }, svg("title", {}, "best epoch")));
  return parts;
}

function path(points, { x, y }) {
  return "M" + points.map(([epoch, value]) => `${x(epoch).toFixed(1)},${y(value).toFixed(1)}`).join("L");
}

function curve({ label, colour, points }, area, smooth) {
  const style = `stroke:var(--c${colour})`;
  if (smooth > 0)
    return [svg("path", { class: "line raw", d: path(points, area), style }), svg("path", { class: "line", d: path(smoothed(points, smooth), area), style }, svg("title", {}, label))];
  const dots = points.length > DOTS_UP_TO ? [] : points.map(([epoch, value]) => svg("circle", { cx: area.x(epoch).toFixed(1), cy: area.y(value).toFixed(1), r: 2.2 }));
  return [svg("path", { class: "line", d: path(points, area), style }, svg("title", {}, label)), svg("g", { style: `fill:var(--c${colour})` }, ...dots)];
}

// Exponential moving average without the bias towards the start, as TensorBoard has it.
function smoothed(points, weight) {
  let [sum, norm] = [0, 0];
  return points.map(([epoch, value]) => {
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return [epoch, sum / norm];
  });
}

function legend(series) {
  return element("div", { class: "legend" }, ...series.map((line) => element("span", {}, element("i", { style: `background:var(--c${line.colour})` }), line.label)));
}

function within(points, range) {
  return range ? points.filter(([epoch]) => epoch >= range[0] && epoch <= range[1]) : points;
}

// The name of a metric, with what it means behind it.
function term(name, meaning) {
  return meaning ? element("details", { class: "term" }, element("summary", {}, name), meaning) : name;
}

function drawChart(chart, view, shared, zoom) {
  const axis = chart.axis ?? "epoch";
  let series = chart.series.map((line) => ({ ...line, points: within(line.points, view.range) })).filter((line) => line.points.length);
  if (!series.length) series = chart.series;
  const area = scales(series, view.log, shared(chart));
  const cursor = svg("line", { class: "cursor", y1: AREA.top, y2: AREA.bottom });
  const chosen = svg("rect", { class: "chosen", y: AREA.top, height: AREA.bottom - AREA.top, width: 0 });
  const label = `${chart.title} over ${axis}; arrow keys walk along it, Enter at two places zooms`;
  const drawing = svg(
    "svg",
    { class: "chart", viewBox: `0 0 ${AREA.width} ${AREA.height}`, role: "img", tabindex: 0, "aria-label": label },
    ...axes(area, chart.best),
    ...series.flatMap((line) => curve(line, area, view.smooth)),
    cursor,
    chosen,
  );
  const at = (event) => {
    const box = drawing.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width) * AREA.width;
  };
  let start = null;
  const choose = (from, to) => {
    chosen.setAttribute("x", Math.min(from, to));
    chosen.setAttribute("width", Math.abs(to - from));
  };
  const finish = (end) => {
    const range = [start, end].sort((a, b) => a - b);
    const drawn = start !== null;
    start = null;
    if (drawn && range[1] - range[0] > 12) zoom(range.map(area.epochAt));
  };
  const hide = () => (tip.style.visibility = cursor.style.visibility = "hidden");
  drawing.addEventListener("pointerdown", (event) => (start = at(event)));
  drawing.addEventListener("pointermove", (event) => {
    showValues(event, at(event), cursor, area, axis, series);
    if (start !== null && event.buttons === 1) choose(start, at(event));
  });
  drawing.addEventListener("pointerup", (event) => finish(at(event)));
  drawing.addEventListener("pointerleave", hide);
  walkByKeys(drawing, series, area, cursor, axis, { hide, choose, finish, begin: (x) => (start = x), begun: () => start });
  return element("figure", {}, term(element("h3", {}, chart.title), chart.hint), chart.legend === false ? null : legend(chart.series), drawing);
}

// Arrow keys move the cursor from epoch to epoch; Enter begins and ends a range to zoom to.
function walkByKeys(drawing, series, area, cursor, axis, range) {
  const epochs = [...new Set(series.flatMap((line) => line.points.map(([epoch]) => epoch)))].sort((a, b) => a - b);
  let place = -1;
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -epochs.length, End: epochs.length }[event.key];
    if (step !== undefined) {
      event.preventDefault();
      place = Math.min(epochs.length - 1, Math.max(0, place + step));
      const box = drawing.getBoundingClientRect();
      const x = area.x(epochs[place]);
      showValues({ clientX: box.left + (x / AREA.width) * box.width, clientY: box.top + box.height / 3 }, x, cursor, area, axis, series);
      if (range.begun() !== null) range.choose(range.begun(), x);
    } else if (event.key === "Enter" && place >= 0) {
      if (range.begun() === null) range.begin(area.x(epochs[place]));
      else range.finish(area.x(epochs[place]));
    } else if (event.key === "Escape") range.hide();
  });
  drawing.addEventListener("blur", range.hide);
}

// The values of all curves at the epoch nearest to the pointer.
function showValues(event, at, cursor, { x }, axis, series) {
  const epochs = series.flatMap((line) => line.points.map(([epoch]) => epoch));
  const epoch = epochs.reduce((near, other) => (Math.abs(x(other) - at) < Math.abs(x(near) - at) ? other : near));
  cursor.setAttribute("x1", x(epoch));
  cursor.setAttribute("x2", x(epoch));
  const rows = series.flatMap((line) => {
    const point = line.points.find(([other]) => other === epoch);
    return point ? [element("div", {}, element("i", { style: `background:var(--c${line.colour})` }), `${line.label}  ${format(point[1])}`)] : [];
  });
  tip.replaceChildren(`${axis} ${epoch}`, ...rows);
  tip.style.visibility = cursor.style.visibility = "visible";
  const room = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(0, Math.min(event.clientX + 14, window.innerWidth - room.width - 8))}px`;
  tip.style.top = `${Math.max(8, event.clientY - room.height - 12)}px`;
}

// Ranges that charts have in common: epochs always, values of metrics that are shares where this is wanted.
function sharedRanges(charts, view) {
  const points = (chosen) => chosen.flatMap((chart) => chart.series.flatMap((line) => within(line.points, view.range)));
  const found = points(charts).map(([epoch]) => epoch);
  const epochs = found.length ? extent(found) : undefined; // a zoom between two epochs shows everything
  const values = view.same ? extent(points(charts.filter((chart) => chart.share)).map(([, value]) => value)) : null;
  return (chart) => ({ epochs, values: chart.share && values ? values : undefined });
}

function checkbox(text, change) {
  const box = element("input", { type: "checkbox" });
  box.addEventListener("change", () => change(box.checked));
  return element("label", {}, box, ` ${text}`);
}

// One figure a chart, below tools that change all of them: smoothing, scales, and the zoom by dragging.
function drawCharts(target, charts) {
  const view = (target.view ??= { smooth: 0, log: false, same: false, range: null });
  target.charts = charts;
  const redraw = () => {
    const found = target.charts.filter((chart) => chart.series.length);
    const zoom = (range) => {
      view.range = range;
      redraw();
    };
    const shared = sharedRanges(found, view);
    target.replaceChildren(...found.map((chart) => drawChart(chart, view, shared, zoom)));
    target.reset.disabled = view.range === null;
  };
  if (!target.reset) {
    const smooth = element("input", { type: "range", min: 0, max: 0.95, step: 0.05, value: 0 });
    target.reset = element("button", { type: "button" }, "Reset zoom");
    smooth.addEventListener("input", () => ((view.smooth = Number(smooth.value)), redraw()));
    target.reset.addEventListener("click", () => ((view.range = null), redraw()));
    const tools = [
      element("label", {}, "Smoothing ", smooth),
      checkbox("Logarithmic", (on) => ((view.log = on), redraw())),
      charts.filter((chart) => chart.share).length > 1 ? checkbox("Same scale for shares", (on) => ((view.same = on), redraw())) : null,
    ];
    target.before(element("div", { class: "tools" }, ...tools.filter(Boolean), target.reset));
  }
  redraw();
}

for (const target of document.querySelectorAll("[data-charts]")) drawCharts(target, JSON.parse(target.dataset.charts));
