// The comparison of the chosen runs: final metrics against a baseline, curves, and what differs of their configs.

function drawTable(target, head, body, numbers) {
  const cells = (tag, row) => row.map((cell, index) => element(tag, { class: index && numbers ? "number" : "wrap" }, ...(Array.isArray(cell) ? cell : [cell])));
  const drawn = body.map((row) => element("tr", {}, ...cells("td", row)));
  target.replaceChildren(element("table", {}, element("thead", {}, element("tr", {}, ...cells("th", head))), element("tbody", {}, ...drawn)));
}

// Runs of one title are told apart by the settings in which they differ, else by their folder.
function names(chosen) {
  const named = chosen.map((run) => {
    const twins = chosen.filter((other) => other.title === run.title);
    const differing = twins.length > 1 ? [...settings(twins), "train.seed"].filter((key) => new Set(twins.map((twin) => twin.config[key])).size > 1) : [];
    const text = differing.slice(0, 3).map((key) => `${short(key)}=${setting(run, key)}`);
    return text.length ? `${run.title}, ${text.join(", ")}` : run.title;
  });
  return named.map((name, index) => (named.filter((other) => other === name).length > 1 ? `${name} (${chosen[index].folder})` : name));
}

// Standard deviation of a metric over finished runs that differ from this one in their seed alone, one a seed: the same
// seed again says nothing about chance.
function spread(run, metric) {
  const twins = runs.filter((other) => other.twins === run.twins && other.status === "finished" && typeof other.metrics[metric] === "number");
  const values = [...new Map(twins.map((other) => [other.seed, other.metrics[metric]])).values()];
  if (values.length < 2) return null;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1));
  return { count: values.length, deviation: deviation > 1e-9 * Math.abs(mean) ? deviation : 0 }; // else rounding
}

// Dataset and its fingerprint: values on different data have no difference.
function measuredOn(run) {
  return run.ranking.split(" ").slice(1).join(" ");
}

function finalCell(run, baseline, metric) {
  const value = run.metrics[metric];
  const parts = [measure(value)];
  const chance = typeof value === "number" ? spread(run, metric) : null;
  if (chance) parts.push(element("div", { class: "soft" }, `± ${format(chance.deviation)} over ${chance.count} seeds`));
  if (run !== baseline && measuredOn(run) === measuredOn(baseline) && typeof value === "number" && typeof baseline.metrics[metric] === "number") {
    const difference = value - baseline.metrics[metric];
    const better = run.lower.includes(metric) ? difference < 0 : difference > 0;
    const noise = chance && Math.abs(difference) < 2 * chance.deviation;
    const tone = noise || difference === 0 || /\/lr$/.test(metric) ? "soft" : better ? "good" : "bad";
    parts.push(element("div", { class: tone }, difference === 0 ? "the same" : `${difference > 0 ? "+" : ""}${format(difference)}${noise ? " within chance" : ""}`));
  }
  return parts;
}

function drawComparison() {
  const chosen = state.chosen;
  byId("compare").hidden = chosen.length === 0;
  byId("clear").disabled = chosen.length === 0;
  if (chosen.length === 0) return;
  const named = names(chosen);
  const heads = chosen.map((run, index) => {
    const pin = element("button", { type: "button", "aria-pressed": String(index === 0), title: "Differences are shown against this run" }, index === 0 ? "baseline" : "make baseline");
    pin.addEventListener("click", () => {
      state.chosen = [run, ...chosen.filter((other) => other !== run)];
      draw();
    });
    return element("span", {}, element("i", { style: `background:var(--c${index})` }), named[index], " ", pin);
  });
  byId("chosen").replaceChildren(...heads);
  byId("unequal").hidden = new Set(chosen.map(measuredOn)).size < 2;
  const sorted = (found) => [...new Set(found)].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
  const objectives = new Set(chosen.map((run) => run.objective));
  const rank = (name) => (objectives.has(name) ? 0 : name.startsWith("val") ? 1 : name.startsWith("test/") ? 2 : 3);
  const metrics = sorted(chosen.flatMap((run) => Object.keys(run.metrics))).sort((a, b) => rank(a) - rank(b));
  drawTable(byId("finals"), ["metric", ...named], metrics.map((name) => [term(name, meanings[name]), ...chosen.map((run) => finalCell(run, chosen[0], name))]), true);
  const series = sorted(chosen.flatMap((run) => Object.keys(run.series))).sort((a, b) => rank(a) - rank(b));
  drawCharts(
    byId("curves"),
    series.map((name) => ({ title: name, hint: meanings[name], legend: false, share: /^(val|test)\/(?!.*loss$)/.test(name), series: chosen.map((run, index) => ({ label: named[index], colour: index, points: run.series[name] ?? [] })).filter((line) => line.points.length) })),
  );
  const keys = sorted(chosen.flatMap((run) => Object.keys(run.config)));
  const differing = keys.filter((key) => !key.startsWith("trial.") && new Set(chosen.map((run) => run.config[key] ?? "–")).size > 1);
  const body = differing.map((key) => [element("span", { class: "mono" }, key), ...chosen.map((run) => run.config[key] ?? "–")]);
  if (body.length) drawTable(byId("diff"), ["key", ...named], body, false);
  else byId("diff").replaceChildren(element("p", { class: "soft" }, chosen.length > 1 ? "The configs are the same." : "Choose a second run to see what differs."));
}
