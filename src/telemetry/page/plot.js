// The series of the last day, and the plots of it.
const series = { plots: [], keys: [], tiers: [] };
const reaches = [["10 minutes", 0], ["80 minutes", 1], ["a day", 2]];
let reach = null;

// Takes over all that there is.
function takeSeries(answer) {
  Object.assign(series, { plots: answer.plots, keys: answer.keys, tiers: answer.tiers });
  buildPlots();
  drawPlots();
}

// Adds what came since; false where the keys are others by now.
function addPoints(update) {
  for (const [tier, at, values] of update.points) {
    const points = series.tiers[tier]?.points;
    if (!points || (points.length && points[points.length - 1][0] >= at)) continue;
    points.push([at, values]);
    if (points.length > [600, 480, 720][tier]) points.shift();
  }
  return update.keys === series.keys.length;
}

// The tier that is shown: as chosen, or the finest that reaches back to the beginning.
function shownTier() {
  if (reach !== null) return reach;
  const first = Math.min(...series.tiers.map(tier => tier.points[0]?.[0] ?? Infinity));
  const now = Math.max(...series.tiers.map(tier => tier.points[tier.points.length - 1]?.[0] ?? 0));
  return now - first < 620 ? 0 : now - first < 5000 ? 1 : 2;
}

function buildReach() {
  $("reach").replaceChildren(...reaches.map(([name, tier]) => {
    const input = make("input", { type: "radio", name: "reach", value: tier, change: () => { reach = tier; drawPlots(); } });
    return make("label", {}, input, name);
  }));
}

const charts = new Map();
function buildPlots() {
  for (const plot of series.plots) {
    if (charts.has(plot.title)) continue;
    const svg = shape("svg", { class: "plot", "aria-hidden": "true" }), tip = make("div", { class: "tip", "aria-hidden": "true" });
    tip.hidden = true;
    const box = make("div", { class: "chart", tabindex: "0", role: "slider", "aria-label": plot.title, "aria-orientation": "horizontal" }, svg, tip);
    const legend = make("ul", { class: "legend" });
    const card = make("section", { class: "card", "aria-label": plot.title }, make("h3", {}, plot.title), make("p", { class: "about" }, plot.about), box, legend);
    const chart = { plot, card, svg, tip, box, legend, pointer: null, frame: null };
    box.addEventListener("pointermove", event => { chart.pointer = nearestIndex(chart, event.clientX - box.getBoundingClientRect().left); hover(chart); });
    box.addEventListener("pointerleave", () => { chart.pointer = null; hover(chart); });
    box.addEventListener("blur", () => { chart.pointer = null; hover(chart); });
    box.addEventListener("keydown", event => {
      const n = chart.frame?.points.length ?? 0, step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -n, End: n }[event.key];
      if (event.key === "Escape") { chart.pointer = null; hover(chart); }
      if (step === undefined || !n) return;
      event.preventDefault();
      chart.pointer = Math.max(0, Math.min(n - 1, (chart.pointer ?? n - 1) + step));
      hover(chart);
    });
    charts.set(plot.title, chart);
    $("plots").append(card);
  }
}

function nearestIndex(chart, x) {
  const frame = chart.frame;
  if (!frame) return null;
  let best = null;
  frame.points.forEach(([at], index) => { if (best === null || Math.abs(frame.x(at) - x) < Math.abs(frame.x(frame.points[best][0]) - x)) best = index; });
  return best;
}

function linesOf(plot) {
  const named = plot.lines.map(line => [line.key, line.name]);
  if (plot.others) for (const key of series.keys) if (key.startsWith(plot.others)) named.push([key, visible(key.slice(plot.others.length))]);
  return named.map(([key, name]) => ({ name, place: series.keys.indexOf(key) })).filter(line => line.place >= 0);
}

function drawPlots() {
  if (!series.tiers.length) return;
  const tier = shownTier(), { seconds: step, points: all } = series.tiers[tier];
  for (const input of $("reach").querySelectorAll("input")) input.checked = Number(input.value) === tier;
  // Until there are two coarse points, the finer ones show more.
  const points = all.length > 1 ? all : series.tiers[0].points;
  for (const chart of charts.values()) draw(chart, points, all.length > 1 ? step : 1);
}

function draw(chart, points, step) {
  const { plot, svg, card, legend, box } = chart, format = units[plot.unit];
  const newestOf = line => { for (let index = points.length - 1; index >= 0; index--) if (has(points[index][1][line.place])) return points[index][1][line.place]; return undefined; };
  const lines = linesOf(plot).map((line, index) => ({ ...line, tone: index % 8, newest: newestOf(line) })).filter(line => has(line.newest));
  const is_first = plot === series.plots[0];
  card.hidden = lines.length === 0;
  if (card.hidden) { chart.frame = null; return; }
  const width = svg.clientWidth || 600, height = is_first ? (innerWidth < 560 ? 190 : 250) : 130, left = 44, right = 8, top = 8, bottom = 22;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  svg.replaceChildren();
  let low = Infinity, high = -Infinity;
  for (const [, values] of points) for (const line of lines) if (has(values[line.place])) { low = Math.min(low, values[line.place]); high = Math.max(high, values[line.place]); }
  // Where zero is near, the axis begins there; a flat line lies in the middle.
  if (low >= 0 && (low < .5 * high || plot.unit === "count" && high > 0 && low < .9 * high)) low = 0;
  const margin = high > low ? (high - low) * .08 : Math.abs(high) * .1 || 1;
  high += margin;
  if (low !== 0) low -= margin;
  const first = points[0][0], last = Math.max(points[points.length - 1][0], first + 10 * step);
  const x = at => left + (at - first) / (last - first) * (width - left - right);
  const y = value => top + (high - value) / (high - low) * (height - top - bottom);
  for (const tick of ticks(low, high, is_first ? 4 : 3)) {
    shape("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }, svg);
    shape("text", { x: left - 7, y: y(tick) + 4, "text-anchor": "end" }, svg, format(tick));
  }
  const every = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600].find(every => (last - first) / every <= width / 75) ?? 43200;
  const zone = new Date().getTimezoneOffset() * 60;
  for (let at = Math.ceil((first - zone) / every) * every + zone; at <= last; at += every) {
    if (x(at) < left + 12 || x(at) > width - 24) continue;
    shape("text", { x: x(at), y: height - 4, "text-anchor": "middle" }, svg, every < 60 ? clockSecond(at) : clockTime(at));
  }
  for (const line of lines) {
    let path = "", before = null, begun = null;
    const stretches = [];
    for (const [at, values] of points) {
      const value = values[line.place];
      // Ages are there only where something came: their line goes on, unless for long.
      if (!has(value)) continue;
      const is_new = before === null || at - before > Math.max(30, 5 * step);
      if (is_new && path) { stretches.push([path, begun, before]); path = ""; }
      if (is_new) begun = at;
      path += `${is_new ? "M" : "L"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
      before = at;
    }
    if (path) stretches.push([path, begun, before]);
    const kind = `t${line.tone}${line.tone % 2 && lines.length > 1 ? " dashed" : ""}`;
    for (const [path, from, to] of stretches) {
      if (line === lines[0] && low === 0 && to > from) shape("path", { class: `wash t${line.tone}`, d: `${path}L${x(to).toFixed(1)} ${height - bottom}L${x(from).toFixed(1)} ${height - bottom}Z` }, svg);
      shape("path", { class: `curve ${kind}`, d: path }, svg);
    }
    if (before !== null) shape("circle", { class: `dot t${line.tone}`, cx: x(before), cy: y(line.newest), r: 3 }, svg);
  }
  legend.replaceChildren(...lines.map(line => make("li", { class: `t${line.tone}${line.tone % 2 && lines.length > 1 ? " dashed" : ""}` }, `${line.name} `, make("b", {}, format(line.newest)))));
  chart.frame = { points, lines, x, top, bottom: height - bottom, width, format };
  box.setAttribute("aria-valuemin", "0");
  box.setAttribute("aria-valuemax", String(points.length - 1));
  hover(chart);
}

function hover(chart) {
  const { svg, tip, box, frame, pointer } = chart;
  svg.querySelector(".hair")?.remove();
  const index = frame && pointer !== null ? Math.min(pointer, frame.points.length - 1) : null;
  tip.hidden = index === null;
  if (!frame) return;
  const [at, values] = frame.points[index ?? frame.points.length - 1];
  const said = frame.lines.map(line => `${line.name} ${has(values[line.place]) ? frame.format(values[line.place]) : "–"}`);
  box.setAttribute("aria-valuenow", String(index ?? frame.points.length - 1));
  box.setAttribute("aria-valuetext", `${clockSecond(at)}: ${said.join(", ")}`);
  if (tip.hidden) return;
  const place = frame.x(at);
  shape("line", { class: "hair", x1: place, x2: place, y1: frame.top, y2: frame.bottom }, svg);
  tip.textContent = [clockSecond(at), ...said].join("\n");
  tip.style.left = (place > frame.width / 2 ? Math.max(0, place - tip.offsetWidth - 12) : place + 12) + "px";
}
