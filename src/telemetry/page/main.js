// The stream of updates: it is followed, missed, and found again.
let process = null, newest = null, heard = 0, source = null, lagging = null;

async function loadSeries() {
  try {
    const answer = await fetch("/page/series", { cache: "no-store", signal: AbortSignal.timeout(8000) });
    if (answer.ok) takeSeries(await answer.json());
  } catch { /* The next update asks again. */ }
}

function take(update) {
  heard = Date.now();
  const is_other = process !== null && process !== update.process;
  if (process !== update.process) {
    process = update.process;
    loadSeries();
    // What was known of the model before is another process' now.
    asked.step = null;
    if (is_other) { asked.ranks = new Map(); begin(); }
  }
  newest = update.status;
  showHealth(update.diagnosis);
  say("phase", newest.failure ? `${newest.phase}: ${newest.failure}` : newest.replica ? "replica" : newest.phase);
  say("clock", newest.seconds > 0 ? `at work for ${span(newest.seconds)}` : "");
  showCounters(newest);
  showFigures(newest);
  if (update.series) {
    if (!addPoints(update.series)) loadSeries();
    else drawPlots();
  } else loadSeries();
  followAnswers(newest);
  showAge();
}

// Says so where what is shown is old.
function showAge() {
  const age = (Date.now() - heard) / 1e3, is_old = heard > 0 && age > 4;
  $("stale").hidden = !is_old;
  document.querySelector("main").classList.toggle("is-stale", is_old);
  if (is_old) {
    say("stale", `The worker does not answer. What is below is from ${clockSecond(heard / 1e3)}; it is asked again and again.`);
    $("health").dataset.condition = "unknown";
    $("sign").setAttribute("d", signs.unknown);
    say("sentence", "Nobody knows: the worker does not answer.");
    $("remarks").hidden = true;
    document.title = "negstream: no answer";
  }
}

function follow() {
  source?.close();
  source = new EventSource("/page/events");
  source.addEventListener("message", event => take(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    // Where the stream was only cut, the browser asks again by itself; where it was refused, it does not.
    if (source.readyState !== EventSource.CLOSED) return;
    clearTimeout(lagging);
    lagging = setTimeout(poll, 2000);
  });
}

// Without a stream: an update now and then, and another try.
async function poll() {
  try {
    const answer = await fetch("/page/update", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (answer.ok) take(await answer.json());
  } catch { /* Its age is shown. */ }
  follow();
}

// A browser has few connections for an address, whatever the number of tabs: those that nobody looks at need none.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) source?.close();
  else follow();
});

let resizing;
addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(() => { drawPlots(); drawMap(); }, 60); });
setInterval(showAge, 1000);
buildReach();
buildAsk();
buildMap();
follow();
begin();
