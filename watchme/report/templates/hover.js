// Shows the values of all curves of a chart at the epoch nearest to the pointer. Charts carry their own points.
"use strict";
const tip = document.createElement("div");
tip.className = "tip";
document.body.append(tip);

function format(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 0.001 || size >= 1e6) ? value.toExponential(2) : size >= 100 ? value.toFixed(1) : value.toFixed(4);
}

function hideTip(chart) {
  tip.style.visibility = "hidden";
  chart.querySelector(".cursor").style.visibility = "hidden";
}

function showTip(chart, event) {
  const data = JSON.parse(chart.dataset.chart);
  const box = chart.getBoundingClientRect();
  const at = ((event.clientX - box.left) / box.width) * data.width;
  const wanted = data.from + ((at - data.left) / (data.right - data.left)) * (data.to - data.from || 1);
  let epoch = null;
  for (const line of data.series)
    for (const [x] of line.points) if (epoch === null || Math.abs(x - wanted) < Math.abs(epoch - wanted)) epoch = x;
  if (epoch === null) return;
  const place = data.left + ((epoch - data.from) / (data.to - data.from || 1)) * (data.right - data.left);
  const cursor = chart.querySelector(".cursor");
  cursor.setAttribute("x1", place);
  cursor.setAttribute("x2", place);
  cursor.style.visibility = "visible";
  tip.replaceChildren(document.createTextNode(`${data.axis ?? "epoch"} ${epoch}`));
  for (const line of data.series) {
    const point = line.points.find(([x]) => x === epoch);
    if (!point) continue;
    const row = document.createElement("div");
    const mark = document.createElement("i");
    mark.style.background = `var(--c${line.colour})`;
    row.append(mark, `${line.label}  ${format(point[1])}`);
    tip.append(row);
  }
  tip.style.visibility = "visible";
  const room = tip.getBoundingClientRect();
  tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - room.width - 8)}px`;
  tip.style.top = `${Math.max(8, event.clientY - room.height - 12)}px`;
}

document.addEventListener("pointermove", (event) => {
  const chart = event.target.closest ? event.target.closest("svg.chart") : null;
  for (const other of document.querySelectorAll("svg.chart")) if (other !== chart) other.querySelector(".cursor").style.visibility = "hidden";
  if (chart) showTip(chart, event);
  else tip.style.visibility = "hidden";
});
document.addEventListener("pointerleave", () => document.querySelectorAll("svg.chart").forEach(hideTip));
