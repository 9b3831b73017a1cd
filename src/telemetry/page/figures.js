// Health, counters and the figures of the status.
const signs = {
  well: "M12 2a10 10 0 1 1 0 20a10 10 0 1 1 0-20zM7.5 12.5l3 3l6-6.5",
  changing: "M12 2a10 10 0 1 1 0 20a10 10 0 1 1 0-20zM12 7v5l3.5 2",
  watch: "M12 3l10 18h-20zM12 10v5M12 18v.1",
  ill: "M8 2h8l6 6v8l-6 6h-8l-6-6v-8zM9 9l6 6M15 9l-6 6",
  unknown: "M12 2a10 10 0 1 1 0 20a10 10 0 1 1 0-20zM12 17v.1M9.5 9.5a2.5 2.5 0 1 1 2.5 3v1",
};

function showHealth({ condition, sentence, remarks }) {
  $("health").dataset.condition = condition;
  $("sign").setAttribute("d", signs[condition] || signs.unknown);
  say("sentence", sentence);
  $("remarks").hidden = remarks.length === 0;
  $("remarks").replaceChildren(...remarks.map(remark => make("li", {}, visible(remark))));
  document.title = condition === "well" ? "negstream" : `negstream: ${condition}`;
}

function list(id, rows) {
  $(id).replaceChildren(...rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value ?? "none yet"))));
}

function showCounters(status) {
  const { events, evaluation, replica } = status;
  const model = evaluation.model_recent?.["hr@20"], popularity = evaluation.popularity_recent?.["hr@20"];
  const rejected = Object.values(events.rejected).reduce((sum, number) => sum + number, 0);
  const cells = replica
    ? [["step served", count(replica.step)], ["records it had read", count(replica.events)], ["items", count(replica.items)], ["memory", bytes(status.memory.resident)]]
    : [
      ["hit rate, model", fixed(model, 3), "lead"], ["hit rate, popularity", fixed(popularity, 3), "base"],
      ["model against popularity", has(model) && popularity > 0 ? (model / popularity).toFixed(1) + "×" : "–"],
      ["events a second", count(status.events_per_second)], ["events read", count(events.read)], ["items", count(status.items)], ["users", count(status.users)],
      ["records rejected", count(rejected)],
    ];
  $("counters").replaceChildren(...cells.map(([name, value, kind]) => make("div", {}, make("b", { class: kind || "" }, value), make("span", {}, name))));
}

function showFigures(status) {
  const { events, evaluation } = status;
  $("details").hidden = $("over-time").hidden = Boolean(status.replica);
  if (status.replica) return;
  $("rankings").replaceChildren(...[["Hit rate at 20", "hr@20"], ["NDCG at 20", "ndcg@20"], ["MRR at 20", "mrr@20"]].map(([name, of]) => {
    const cells = [evaluation.model, evaluation.popularity].map(ranking => make("td", {}, fixed(ranking?.[of], 3)));
    return make("tr", {}, make("th", { scope: "row" }, name), ...cells);
  }));
  const watched = status.false_negatives.reduce((sum, part) => [sum[0] + part.false, sum[1] + part.used], [0, 0]);
  list("about", [
    ["Events ranked before they were learnt", count(evaluation.events)],
    ["Hit rate, new / rare / frequent items", evaluation.model ? ["cold_hr@20", "tail_hr@20", "head_hr@20"].map(of => fixed(evaluation.model[of], 3)).join(" / ") : null],
    ["Mutual information, at least", has(status.mi_bound) ? `${fixed(status.mi_bound, 2)} nats` : null],
    ...(status.objectives.length > 1 ? status.objectives.map(part => [`${part.objective}${part.part ? ", " + part.part : ""}`, `loss ${fixed(part.loss, 3)}${has(part.bound) ? `, at least ${fixed(part.bound, 2)} nats` : ""}${has(part.acceptance) ? `, pairs count ${fixed(part.acceptance, 2)}` : ""}`]) : []),
    ["Frequencies' half-life", has(status.half_life) ? `${short(status.half_life)} events` : null],
    ["Negatives", status.proposals.length ? status.proposals.filter(p => p.share > 0).map(p => `${visible(p.name)} ${Math.round(100 * p.share)} %`).join(", ") : null],
    ["Negatives that were false", watched[1] ? `${fixed(100 * watched[0] / watched[1], 2)} % of those watched` : null],
    ["Popularity β, temperature τ", has(status.beta) || has(status.temperature) ? `${fixed(status.beta, 3)}, ${fixed(status.temperature, 3)}` : null],
  ]);
  const kept = status.checkpoints.newest, rejected = Object.entries(events.rejected).filter(([, number]) => number > 0);
  const lags = status.lag.slice(0, 8).map(lag => ["Lag of " + visible(lag.stream), has(lag.events) ? `${count(lag.events)} records` : "unknown"]);
  if (status.lag.length > 8) {
    const rest = status.lag.slice(8);
    lags.push([`Lag of ${rest.length} more`, `${count(rest.reduce((sum, lag) => sum + (lag.events ?? 0), 0))} records`]);
  }
  const quantiles = taken => `${fixed(taken.p50, 2)} s, 99 % within ${fixed(taken.p99, 2)} s`;
  list("state", [
    ["Events trained on, in steps", `${count(events.used)}, ${count(status.steps)}`],
    ["Newest checkpoint", kept ? visible(kept.name) : null],
    ...(kept ? [["taken after", `${count(kept.events)} events`], ["written in", `${fixed(kept.seconds, 2)} s, ${bytes(kept.bytes)}`]] : []),
    ["Newest event trained on", has(status.newest_event) ? new Date(status.newest_event).toISOString().slice(0, 19).replace("T", " ") + " UTC" : null],
    ...[["weights", "Read until in the weights"], ["checkpoint", "Read until in a checkpoint"]].map(([place, name]) => [name, status.freshness["read_to_" + place]])
      .filter(([, taken]) => taken.count > 0).map(([name, taken]) => [name, quantiles(taken)]),
    ...(status.freshness.event_to_weights.count > 0 ? [["Happened until in the weights", quantiles(status.freshness.event_to_weights)]] : []),
    ...status.sinks.map(sink => ["Sink " + visible(sink.sink), `${sink.condition}; ${count(sink.rows)} rows, ${bytes(sink.bytes)}`
      + (has(sink.recall) ? `, recall ${fixed(sink.recall, 4)}` : "") + (sink.held_rows > 0 ? `, ${count(sink.held_rows)} rows held back` : "")
      + (sink.errors > 0 ? `, ${count(sink.errors)} errors` : "")
      + (sink.read_to_visible.count > 0 ? `; read until visible ${quantiles(sink.read_to_visible)}` : "")]),
    ...lags,
    ...(events.ignored > 0 ? [["Ignored, other event types", count(events.ignored)]] : []),
    ...(status.disorder.late > 0 ? [["More than an hour late", count(status.disorder.late)]] : []),
    ...(events.deferred > 0 ? [["Deferred, item without a row", count(events.deferred)]] : []),
    ...["items", "users"].flatMap(table => Object.entries(status.evicted[table]).filter(([, rows]) => rows > 0)
      .map(([reason, rows]) => [reason === "expired" ? `Expired ${table}` : `Dropped ${table}, at the cap`, count(rows)])),
    ["Memory", has(status.memory.resident) ? `${bytes(status.memory.resident)}, at most ${bytes(status.memory.peak)}` : null],
    ...rejected.map(([reason, number]) => ["Rejected, " + reason.replaceAll("_", " "), count(number)]),
  ]);
}
