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
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? Number(value.toPrecision(3)).toExponential() : String(Number(value.toFixed(4)));
}

function scales(series) {
  const points = series.flatMap((line) => line.points);
  const epochs = points.map(([epoch]) => epoch);
  const values = points.map(([, value]) => value);
  const [from, to] = [Math.min(...epochs), Math.max(...epochs)];
  const ticks = valueTicks(Math.min(...values), Math.max(...values));
  const [low, high] = [Math.min(ticks[0], ...values), Math.max(ticks.at(-1), ...values)];
  return {
    from,
    to,
    ticks,
    x: (epoch) => AREA.left + ((epoch - from) / (to - from || 1)) * (AREA.right - AREA.left),
    y: (value) => AREA.bottom - ((value - low) / (high - low || 1)) * (AREA.bottom - AREA.top),
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

function curve({ label, colour, points }, { x, y }) {
  const path = points.map(([epoch, value]) => `${x(epoch).toFixed(1)},${y(value).toFixed(1)}`).join("L");
  const dots = points.length > DOTS_UP_TO ? [] : points.map(([epoch, value]) => svg("circle", { cx: x(epoch).toFixed(1), cy: y(value).toFixed(1), r: 2.2 }));
  return [
    svg("path", { class: "line", d: `M${path}`, style: `stroke:var(--c${colour})` }, svg("title", {}, label)),
    svg("g", { style: `fill:var(--c${colour})` }, ...dots),
  ];
}

function legend(series) {
  return element("div", { class: "legend" }, ...series.map((line) => element("span", {}, element("i", { style: `background:var(--c${line.colour})` }), line.label)));
}

function drawChart(chart) {
  const axis = chart.axis ?? "epoch";
  const area = scales(chart.series);
  const cursor = svg("line", { class: "cursor", y1: AREA.top, y2: AREA.bottom });
  const drawing = svg(
    "svg",
    { class: "chart", viewBox: `0 0 ${AREA.width} ${AREA.height}`, role: "img", "aria-label": `${chart.title} over ${axis}` },
    ...axes(area, chart.best),
    ...chart.series.flatMap((line) => curve(line, area)),
    cursor,
  );
  drawing.addEventListener("pointermove", (event) => showValues(event, drawing, cursor, area, axis, chart.series));
  drawing.addEventListener("pointerleave", () => {
    tip.style.visibility = cursor.style.visibility = "hidden";
  });
  return element("figure", {}, element("h3", {}, chart.title), chart.legend === false ? null : legend(chart.series), drawing);
}

// The values of all curves at the epoch nearest to the pointer.
function showValues(event, drawing, cursor, { x }, axis, series) {
  const box = drawing.getBoundingClientRect();
  const at = ((event.clientX - box.left) / box.width) * AREA.width;
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

for (const target of document.querySelectorAll("[data-charts]"))
  target.replaceChildren(...JSON.parse(target.dataset.charts).filter((chart) => chart.series.length).map(drawChart));
