// The map: drawn on a canvas, moved and zoomed by pointer and keyboard; its items are in a list, too.
const map = { items: [], from: new Map(), since: 0, zoom: 1, centre: [0, 0], chosen: -1, near: new Set(), of: null, drag: null, pointers: new Map(), loading: false, timer: null, visible: false };
const ramps = {
  light: ["#2c4a8f", "#2b7f9e", "#2fa37c", "#8fae2f", "#d98a12"],
  dark: ["#6d86d8", "#3fb0c9", "#45d39b", "#bfd755", "#ffc24d"],
};
const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;

function ramp(share) {
  const colours = ramps[isDark() ? "dark" : "light"], place = Math.max(0, Math.min(.9999, share)) * (colours.length - 1), index = Math.floor(place);
  const part = (colour, at) => parseInt(colour.slice(1 + 2 * at, 3 + 2 * at), 16);
  return `rgb(${[0, 1, 2].map(at => Math.round(part(colours[index], at) + (place - index) * (part(colours[index + 1], at) - part(colours[index], at)))).join(",")})`;
}

async function loadMap() {
  clearTimeout(map.timer);
  map.timer = setTimeout(loadMap, 8000);
  if (map.loading || document.hidden || !map.visible) return;
  map.loading = true;
  const answer = await api("/v1/map");
  map.loading = false;
  if (!answer) return;
  const before = new Map(map.items.map(item => [item.item_id, placeNow(item)])), chosen = map.items[map.chosen]?.item_id;
  map.from = before;
  map.items = answer.items;
  map.since = performance.now();
  map.chosen = map.items.findIndex(item => item.item_id === chosen);
  const counts = map.items.map(item => Math.log(1 + item.count)), most = Math.max(...counts, 1), least = Math.min(...counts, most);
  const arrivals = map.items.map((item, index) => [item.arrival, index]).sort((a, b) => a[0] - b[0]);
  arrivals.forEach(([, index], rank) => { map.items[index].age = rank / Math.max(1, arrivals.length - 1); });
  map.items.forEach((item, index) => { item.common = most > least ? (counts[index] - least) / (most - least) : .5; });
  say("map-said", map.chosen >= 0 ? $("map-said").textContent : `${count(map.items.length)} items`);
  if (!$("map-details").open || !$("map-list").children.length) listMap();
  drawMap();
}

function listMap() {
  const most = map.items.map((item, index) => [item.count, index]).sort((a, b) => b[0] - a[0]).slice(0, 60);
  $("map-list").replaceChildren(...most.map(([, index]) => {
    const item = map.items[index];
    return make("li", {}, make("button", { type: "button", class: "name", click: () => { choosePlace(map.items.findIndex(other => other.item_id === item.item_id)); chooseItem(item.item_id); } }, called(item)));
  }));
}

// Where an item is drawn: on its way from where it was on the map before.
function placeNow(item) {
  const from = map.from.get(item.item_id), share = Math.min(1, (performance.now() - map.since) / 700);
  if (!from || share >= 1) return [item.x, item.y];
  const eased = share * share * (3 - 2 * share);
  return [from[0] + eased * (item.x - from[0]), from[1] + eased * (item.y - from[1])];
}

function frame() {
  const canvas = $("map"), width = canvas.clientWidth, height = canvas.clientHeight, scale = Math.min(width, height) / 2 / 1.15 * map.zoom;
  return {
    width, height, scale,
    at: ([x, y]) => [width / 2 + (x - map.centre[0]) * scale, height / 2 - (y - map.centre[1]) * scale],
    back: (x, y) => [map.centre[0] + (x - width / 2) / scale, map.centre[1] - (y - height / 2) / scale],
  };
}

let drawing = false;
function drawMap() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    paintMap();
    if (performance.now() - map.since < 700) drawMap();
  });
}

function paintMap() {
  const canvas = $("map"), { width, height, at } = frame(), ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) { canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio); }
  const context = canvas.getContext("2d"), style = getComputedStyle(document.documentElement), ink = style.getPropertyValue("--ink"), paper = style.getPropertyValue("--paper");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const by = $("map-colour").value === "count" ? "common" : "age", size = Math.min(3, .8 + .2 * map.zoom);
  const named = [];
  map.items.forEach((item, index) => {
    const [x, y] = at(placeNow(item));
    if (x < -20 || y < -20 || x > width + 20 || y > height + 20) return;
    context.globalAlpha = map.near.size && !map.near.has(item.item_id) && item.item_id !== map.of ? .35 : .85;
    context.fillStyle = ramp(item[by]);
    context.beginPath();
    context.arc(x, y, (1.6 + 3 * item.common) * size, 0, 2 * Math.PI);
    context.fill();
    const is_special = index === map.chosen || item.item_id === map.of || map.near.has(item.item_id);
    if (is_special) {
      context.globalAlpha = 1;
      context.strokeStyle = ink;
      context.lineWidth = item.item_id === map.of || index === map.chosen ? 2 : 1.2;
      context.stroke();
    }
    if (is_special || map.zoom >= 2.5 || item.common > .7) named.push([is_special ? 2 : item.common, x, y, item]);
  });
  context.globalAlpha = 1;
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.lineWidth = 3;
  context.strokeStyle = paper;
  context.fillStyle = ink;
  const taken = [];
  for (const [, x, y, item] of named.sort((a, b) => b[0] - a[0]).slice(0, 160)) {
    const text = visible(item.title ?? item.item_id).slice(0, 28), room = context.measureText(text).width, left = x + room + 14 > width ? x - room - 8 : x + 8;
    if (taken.some(([l, t, r]) => left < r + 4 && left + room > l - 4 && Math.abs(y - t) < 14)) continue;
    taken.push([left, y, left + room]);
    context.strokeText(text, left, y);
    context.fillText(text, left, y);
  }
  paintRamp(by);
}

function paintRamp(by) {
  const context = $("ramp").getContext("2d");
  for (let x = 0; x < 120; x++) { context.fillStyle = ramp(x / 119); context.fillRect(x, 0, 1, 10); }
  say("ramp-low", by === "age" ? "oldest" : "rare");
  say("ramp-high", by === "age" ? "newest" : "common");
}

function zoomBy(factor, x, y) {
  const before = frame().back(x ?? frame().width / 2, y ?? frame().height / 2);
  map.zoom = Math.max(.6, Math.min(40, map.zoom * factor));
  const after = frame().back(x ?? frame().width / 2, y ?? frame().height / 2);
  map.centre = [0, 1].map(axis => map.centre[axis] + before[axis] - after[axis]);
  drawMap();
}

function nearestTo(x, y, most) {
  const { at } = frame();
  let best = -1, least = most * most;
  map.items.forEach((item, index) => { const [left, top] = at([item.x, item.y]), way = (left - x) ** 2 + (top - y) ** 2; if (way < least) [best, least] = [index, way]; });
  return best;
}

function describe(item) { return `${called(item)}: ${count(item.count)} events, newer than ${Math.round(100 * item.age)} % of these`; }

function choosePlace(index) {
  map.chosen = index;
  const item = map.items[index];
  if (item) {
    say("map-said", describe(item));
    const { at, width, height } = frame(), [x, y] = at([item.x, item.y]);
    if (x < 20 || y < 20 || x > width - 20 || y > height - 20) map.centre = [item.x, item.y];
  }
  drawMap();
}

// The next item in a direction: near, and rather straight ahead.
function step(dx, dy) {
  const here = map.items[map.chosen];
  if (!here) return choosePlace(map.items.reduce((best, item, index) => best < 0 || item.count > map.items[best].count ? index : best, -1));
  let best = -1, least = Infinity;
  map.items.forEach((item, index) => {
    const along = (item.x - here.x) * dx + (item.y - here.y) * dy, across = Math.abs((item.x - here.x) * dy) + Math.abs((item.y - here.y) * dx);
    if (index !== map.chosen && along > 1e-6 && along + 2 * across < least) [best, least] = [index, along + 2 * across];
  });
  if (best >= 0) choosePlace(best);
}

// Shows an item and those that are near to it.
function mapNear(of, near) {
  map.of = of;
  map.near = new Set(near);
  drawMap();
}

function tipAt(index, x, y) {
  const tip = $("map-tip"), item = map.items[index];
  tip.hidden = !item;
  if (!item) return;
  tip.textContent = `${called(item)}\n${count(item.count)} events`;
  tip.style.left = Math.max(0, Math.min(x + 14, frame().width - tip.offsetWidth - 4)) + "px";
  tip.style.top = Math.max(0, Math.min(y + 10, frame().height - tip.offsetHeight - 4)) + "px";
}

function buildMap() {
  const canvas = $("map"), place = event => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  canvas.addEventListener("wheel", event => { event.preventDefault(); zoomBy(Math.exp(-event.deltaY * .0015), ...place(event)); }, { passive: false });
  canvas.addEventListener("pointerdown", event => { map.pointers.set(event.pointerId, place(event)); map.drag = { from: place(event), moved: 0 }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", event => {
    const now = place(event), before = map.pointers.get(event.pointerId);
    if (!before) return tipAt(nearestTo(...now, 14), ...now);
    const others = [...map.pointers].filter(([id]) => id !== event.pointerId);
    if (others.length) {
      const [other] = others[0].slice(1), spread = point => Math.hypot(point[0] - other[0], point[1] - other[1]);
      if (spread(before) > 5) zoomBy(spread(now) / spread(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else {
      const { scale } = frame();
      map.centre = [map.centre[0] - (now[0] - before[0]) / scale, map.centre[1] + (now[1] - before[1]) / scale];
      map.drag.moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
      drawMap();
    }
    map.pointers.set(event.pointerId, now);
  });
  const up = event => {
    map.pointers.delete(event.pointerId);
    if (event.type === "pointerup" && map.drag && map.drag.moved < 5) {
      const index = nearestTo(...place(event), 16);
      if (index >= 0) { choosePlace(index); chooseItem(map.items[index].item_id); }
    }
  };
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, up);
  canvas.addEventListener("pointerleave", () => { $("map-tip").hidden = true; });
  canvas.addEventListener("keydown", event => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (way) step(...way);
    else if (event.key === "+" || event.key === "=") zoomBy(1.4);
    else if (event.key === "-") zoomBy(1 / 1.4);
    else if (event.key === "0" || event.key === "Home") wholeMap();
    else if (event.key === "Enter" && map.items[map.chosen]) chooseItem(map.items[map.chosen].item_id);
    else return;
    event.preventDefault();
  });
  $("map-in").addEventListener("click", () => zoomBy(1.5));
  $("map-out").addEventListener("click", () => zoomBy(1 / 1.5));
  $("map-whole").addEventListener("click", wholeMap);
  $("map-colour").addEventListener("change", drawMap);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
  new IntersectionObserver(entries => { map.visible = entries[entries.length - 1].isIntersecting; if (map.visible) loadMap(); }, { rootMargin: "200px" }).observe($("map-frame"));
}

function wholeMap() {
  Object.assign(map, { zoom: 1, centre: [0, 0] });
  drawMap();
}
