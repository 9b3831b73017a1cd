// Questions to the API: search, neighbours that re-rank while events arrive, recommendations with their reasons.
let token = "";
const asked = { item: null, user: null, ranks: new Map(), step: null, busy: false };

// Asks the API. A refusal is shown beside the heading, and null comes back.
async function api(path, body) {
  const headers = body ? { "content-type": "application/json" } : {};
  if (token) headers.authorization = `Bearer ${token}`;
  try {
    const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), cache: "no-store", signal: AbortSignal.timeout(6000) });
    const json = await answer.json();
    $("token-form").hidden = answer.status !== 401;
    if (answer.status === 401 || answer.status === 403) $("panels").hidden = $("map-section").hidden = true;
    else $("panels").hidden = $("map-section").hidden = false;
    if (answer.ok) { say("ask-note", ""); return json; }
    say("ask-note", visible(`${json.title ?? "refused"}: ${json.detail ?? answer.status}`));
  } catch {
    say("ask-note", "The worker does not answer.");
  }
  return null;
}

const known = answer => `as of ${clockSecond(Date.now() / 1e3 - answer.model.age_ms / 1e3)}, step ${count(answer.model.step)}`;

function showFound(id, what, names, choose) {
  $(id).replaceChildren(...names.map(([text, value]) => make("li", {}, make("button", { type: "button", click: () => choose(value) }, text))));
  if (!names.length) say("ask-note", `No ${what} begins like that.`);
}

async function searchItems() {
  const answer = await api(`/v1/items?k=8&prefix=${encodeURIComponent($("item").value)}`);
  if (answer) showFound("item-found", "item", answer.items.map(item => [called(item), item.item_id]), chooseItem);
  return answer?.items.map(item => item.item_id) ?? [];
}

async function searchUsers() {
  const answer = await api(`/v1/users?k=8&prefix=${encodeURIComponent($("user").value)}`);
  if (answer) showFound("user-found", "user", answer.users.map(user => [visible(user), user]), chooseUser);
  return answer?.users ?? [];
}

function chooseItem(item) {
  if (asked.item !== item) asked.ranks = new Map();
  asked.item = item;
  showNear();
}

function chooseUser(user) {
  asked.user = user;
  showNext();
}

function bar(share) {
  const svg = shape("svg", { viewBox: "0 0 100 7", preserveAspectRatio: "none" });
  shape("rect", { x: 0, y: 0, width: Math.max(0, Math.min(100, 100 * share)).toFixed(1), height: 7 }, svg);
  return make("div", { class: "bar", "aria-hidden": "true" }, svg);
}

async function showNear() {
  const item = asked.item;
  if (item === null) return;
  const answer = await api(`/v1/items/${encodeURIComponent(item)}/neighbors?k=12`);
  if (!answer || asked.item !== item) return;
  $("near").hidden = false;
  say("near-of", visible(item));
  say("near-age", known(answer));
  const list = $("near-list"), tops = new Map([...list.children].map(row => [row.item, row.getBoundingClientRect().top]));
  const had = document.activeElement?.closest?.("#near-list li")?.item, ranks = new Map();
  list.replaceChildren(...answer.neighbors.map((near, index) => {
    const before = asked.ranks.get(near.item_id), by = before === undefined ? 0 : before - index;
    ranks.set(near.item_id, index);
    const moved = asked.ranks.size && before === undefined ? "new" : by > 0 ? `▲${by}` : by < 0 ? `▼${-by}` : "";
    const row = make("li", {},
      make("span", { class: "rank" }, String(index + 1)), make("button", { type: "button", class: "name", click: () => chooseItem(near.item_id) }, called(near)),
      bar(near.cosine), make("span", { class: "number" }, fixed(near.cosine, 3)), make("span", { class: "moved" }, moved));
    row.item = near.item_id;
    row.title = `${count(near.count)} events`;
    return row;
  }));
  asked.ranks = ranks;
  mapNear(item, answer.neighbors.map(near => near.item_id));
  for (const row of list.children) {
    if (row.item === had) row.querySelector("button").focus({ preventScroll: true });
    const top = tops.get(row.item);
    const way = top === undefined ? 0 : top - row.getBoundingClientRect().top;
    if (way && !matchMedia("(prefers-reduced-motion: reduce)").matches) row.animate([{ transform: `translateY(${way}px)` }, { transform: "none" }], { duration: 450, easing: "ease-out" });
  }
}

// Why an item is in a list: its parts against the mean of the list, in words.
function reason(row, rows) {
  const mean = part => rows.reduce((sum, other) => sum + other[part], 0) / rows.length;
  const reasons = [];
  if (row.like) reasons.push([row.similarity - mean("similarity") + .5, `like ${called(row.like)} (cosine ${fixed(row.like.cosine, 2)})`]);
  if (row.repetition > .2) reasons.push([row.repetition + .5, "they had it before"]);
  if (row.cooccurrence > .2) reasons.push([row.cooccurrence + .2, "often comes with what they had last"]);
  if (row.popularity - mean("popularity") > .3) reasons.push([row.popularity - mean("popularity"), "popular now"]);
  return reasons.sort((a, b) => b[0] - a[0]).map(([, text]) => text).join("; ") || "fits what they had";
}

async function showNext() {
  const user = asked.user;
  if (user === null) return;
  const answer = await api("/v1/recommend", { user, k: 12 });
  if (!answer || asked.user !== user) return;
  $("next").hidden = false;
  say("next-of", visible(user));
  say("next-age", known(answer));
  const rows = answer.recommendations;
  $("next-list").replaceChildren(...rows.map(row => {
    const parts = `likeness ${fixed(row.similarity, 2)}, popularity ${fixed(row.popularity, 2)}, repetition ${fixed(row.repetition, 2)}, co-occurrence ${fixed(row.cooccurrence, 2)}`;
    const line = make("tr", {}, make("td", { class: "item" }, called(row)), make("td", { class: "words" }, reason(row, rows)), make("td", {}, fixed(row.score, 2)));
    line.title = parts;
    return line;
  }));
}

// Asks again what is on the page, at most every other second, and only while somebody looks.
function followAnswers(status) {
  const step = status.replica ? status.replica.step : status.steps;
  if (document.hidden || asked.busy || step === asked.step || (asked.item === null && asked.user === null)) return;
  Object.assign(asked, { step, busy: true });
  const typing = document.activeElement?.closest?.("#next");
  Promise.all([showNear(), typing ? null : showNext()]).finally(() => setTimeout(() => { asked.busy = false; }, 1500));
}

function debounced(work) {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(work, 200); };
}

function buildAsk() {
  for (const [what, search, choose] of [["item", searchItems, chooseItem], ["user", searchUsers, chooseUser]]) {
    $(what).addEventListener("input", debounced(search));
    $(`${what}-form`).addEventListener("submit", async event => {
      event.preventDefault();
      const found = await search(), exact = found.find(name => name === $(what).value) ?? found[0];
      if (exact !== undefined) choose(exact);
    });
  }
  $("token-form").addEventListener("submit", event => {
    event.preventDefault();
    token = $("token").value;
    begin();
  });
}

// What is there before anybody asks: the most common items, and some users.
async function begin() {
  const items = await searchItems();
  // Where it is refused, who gives the token begins anew.
  if (!items.length) return $("panels").hidden || setTimeout(begin, 3000);
  await searchUsers();
  loadMap();
}
