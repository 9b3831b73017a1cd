//! The sinks of servers, against the real ones: whole updates and changes, deletions, late writers, restarts, and what is said
//! where a server is away, hangs, is full, refuses credentials, or holds something else.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use negstream::publish::{self, EmbeddingSink, ItemRow, SinkConfig, SinkError, SinkState, Update, UpdateKind, Version};

use crate::kafka_harness::Broker;
use crate::sink_servers::{self, SinkServer};
use crate::support::python;

pub(crate) const DIM: usize = 8;

/// A table of items as a test wants it in a sink: embedding and log frequency, by item.
pub(crate) type Wanted = BTreeMap<String, (Vec<f32>, f32)>;

/// A place in a server, which a test opens as often as it likes.
#[derive(Clone, Copy)]
pub(crate) struct SinkPlace<'a> {
    pub(crate) sink: &'static str,
    pub(crate) target: &'a str,
    /// The prefix of its keys, its table or its index.
    pub(crate) name: &'a str,
}

impl SinkPlace<'_> {
    pub(crate) fn open(&self) -> Box<dyn EmbeddingSink> {
        open_sink(self.sink, self.target, &[("name", self.name)]).unwrap()
    }

    /// What the sink holds, and the versions of its rows.
    pub(crate) fn read(&self) -> (Option<SinkState>, Wanted, BTreeMap<String, Version>) {
        let (mut rows, mut versions) = (Wanted::new(), BTreeMap::new());
        let mut sink = self.open();
        let state = sink.read(&mut |item| {
            versions.insert(item.item_id.clone(), item.version);
            assert!(rows.insert(item.item_id, (item.embedding, item.log_frequency)).is_none(), "an item twice");
        });
        (state.unwrap(), rows, versions)
    }
}

pub(crate) fn open_sink(
    sink: &str,
    target: &str,
    options: &[(&str, &str)],
) -> Result<Box<dyn EmbeddingSink>, SinkError> {
    publish::open(&config(sink, target, options))
}

/// A table `[[publish]]` with further options; those that are numbers or truths are written as such.
fn config(sink: &str, target: &str, options: &[(&str, &str)]) -> SinkConfig {
    let value = |text: &str| match (text.parse::<i64>(), text.parse::<bool>()) {
        _ if text.starts_with('{') => text.parse::<toml::Value>().expect("an inline table"),
        (Ok(number), _) => toml::Value::from(number),
        (_, Ok(truth)) => toml::Value::from(truth),
        _ => toml::Value::from(text),
    };
    let named = [("sink", toml::Value::from(sink)), ("target", toml::Value::from(target))];
    let options = named.into_iter().chain(options.iter().map(|(key, text)| (*key, value(text))));
    SinkConfig::from_table(options.map(|(key, value)| (key.to_owned(), value)).collect()).unwrap()
}

pub(crate) fn update(kind: UpdateKind, epoch: u64, step: u64) -> Update<'static> {
    Update { kind, version: Version { epoch, step }, dim: DIM, model_id: "model-a" }
}

pub(crate) const FULL: UpdateKind = UpdateKind::Full;
pub(crate) const DELTA: UpdateKind = UpdateKind::Delta;

/// `n` items of a table that `seed` decides about; some of their identifiers are as hostile as they come.
pub(crate) fn table(n: usize, seed: u64) -> Wanted {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let hostile = ["'; DROP TABLE x; --", "\"{}\\n\n\t", "ß 漢字 🛒", "a,b\tc", "%n$(id)", " "];
    let mut row = |i: usize| {
        let item_id = hostile.get(i).map_or_else(|| format!("item-{i}"), |&item_id| item_id.to_owned());
        (item_id, ((0..DIM).map(|_| random()).collect(), -8.0 + random()))
    };
    (0..n).map(&mut row).collect()
}

pub(crate) fn rows(table: &Wanted) -> Vec<ItemRow<'_>> {
    let rows = table.iter();
    rows.map(|(item_id, (embedding, log_frequency))| ItemRow { item_id, embedding, log_frequency: *log_frequency })
        .collect()
}

/// One update from its beginning to its end.
pub(crate) fn publish(
    sink: &mut dyn EmbeddingSink,
    update: &Update<'_>,
    gone: &[&str],
    table: &Wanted,
) -> Result<(), SinkError> {
    sink.begin(update)?;
    sink.remove(gone)?;
    for part in rows(table).chunks(700) {
        sink.upsert(part)?;
    }
    sink.commit()
}

#[track_caller]
pub(crate) fn refused(outcome: Result<(), SinkError>, words: &[&str]) -> String {
    let message = outcome.expect_err("it is refused").to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is missing: {message}");
    }
    message
}

/// What every sink must do that outlives the process.
pub(crate) fn holds_what_was_published_and_nothing_else(place: SinkPlace<'_>) {
    let mut wanted = table(2_500, 1);
    let mut sink = place.open();
    let name = sink.name().to_owned();
    // A change before anything whole is none.
    refused(sink.begin(&update(DELTA, 1, 1)), &[&name, "full update"]);
    publish(&mut *sink, &update(FULL, 1, 10), &[], &wanted).unwrap();
    let (state, held, _) = place.read();
    let version = Version { epoch: 1, step: 10 };
    assert_eq!(state, Some(SinkState { model_id: "model-a".to_owned(), version, dim: DIM }));
    assert!(held == wanted, "{name}: a full update");

    // Changes, deletions and new items; what was not sent stays as it was.
    let mut changed: Wanted = table(2_600, 2).into_iter().filter(|(item_id, _)| item_id.ends_with('7')).collect();
    changed.insert("new".to_owned(), (vec![0.0; DIM], -3.0));
    let gone: Vec<String> = wanted.keys().filter(|item_id| !item_id.ends_with('7')).take(40).cloned().collect();
    let gone: Vec<&str> = gone.iter().map(String::as_str).chain(["never there"]).collect();
    publish(&mut *sink, &update(DELTA, 1, 20), &gone, &changed).unwrap();
    wanted.retain(|item_id, _| !gone.contains(&item_id.as_str()));
    wanted.extend(changed.clone());
    let (state, held, versions) = place.read();
    assert_eq!(state.unwrap().version, Version { epoch: 1, step: 20 });
    assert!(held == wanted, "{name}: a delta");
    for (item_id, version) in &versions {
        let step = if changed.contains_key(item_id) { 20 } else { 10 };
        assert_eq!(*version, Version { epoch: 1, step }, "{item_id}");
    }

    // An older worker, and this one again, are refused, before they write anything.
    for (epoch, step) in [(1, 20), (1, 15), (0, 900)] {
        refused(place.open().begin(&update(FULL, epoch, step)), &[&name, "not older", "epoch 1, step 20"]);
    }
    // Another model, another dimension.
    let other = Update { model_id: "model-b", ..update(FULL, 2, 0) };
    refused(place.open().begin(&other), &[&name, "another model", "model-a", "model-b"]);
    let other = Update { dim: DIM + 1, ..update(FULL, 2, 0) };
    refused(place.open().begin(&other), &[&name, "dimension 8", "not 9"]);
    // A new process begins with a full update.
    refused(place.open().begin(&update(DELTA, 1, 30)), &[&name, "full update"]);
    assert!(place.read().1 == wanted, "{name}: refusals write nothing");

    // Killed in the middle of a full update, and begun anew from an older state: nothing of the old timeline remains.
    let mut killed = place.open();
    killed.begin(&update(FULL, 2, 5)).unwrap();
    killed.upsert(&rows(&table(900, 3))).unwrap();
    drop(killed);
    let wanted = table(1_700, 4);
    let mut sink = place.open();
    publish(&mut *sink, &update(FULL, 3, 2), &[], &wanted).unwrap();
    let (state, held, versions) = place.read();
    assert_eq!(state.unwrap().version, Version { epoch: 3, step: 2 });
    assert!(held == wanted, "{name}: a restart");
    assert!(versions.values().all(|version| *version == Version { epoch: 3, step: 2 }));

    // One that was broken off is told by its version, so that the next is above it.
    let mut killed = place.open();
    killed.begin(&update(FULL, 4, 900)).unwrap();
    killed.upsert(&rows(&table(100, 24))).unwrap();
    drop(killed);
    let newest = place.open().state().unwrap().unwrap().version;
    let epoch = newest.epoch + 1;
    // Where an update is a transaction, nothing is left of it.
    let is_gone = ["kafka", "parquet", "postgres"].contains(&name.as_str());
    assert!(newest.epoch == if is_gone { 3 } else { 4 }, "{name}: {newest}");
    publish(&mut *sink, &update(FULL, epoch, 2), &[], &wanted).unwrap();
    assert!(place.read().1 == wanted, "{name}: after one that was broken off");

    // The same rows again under a new epoch, as after every restart.
    publish(&mut *place.open(), &update(FULL, epoch + 1, 2), &[], &wanted).unwrap();
    assert!(place.read().1 == wanted, "{name}: the same again");
    // The one before it is still alive, and can write no more.
    refused(publish(&mut *sink, &update(DELTA, epoch, 9), &[" "], &table(20, 5)), &[&name, "not older"]);
    assert!(place.read().1 == wanted, "{name}: a late worker");

    // Another model in its place, where that is asked for.
    let other = Update { model_id: "model-b", dim: DIM / 2, ..update(FULL, epoch + 2, 0) };
    let replacing = [("name", place.name), ("replace", "true")];
    let mut replacing = open_sink(place.sink, place.target, &replacing).unwrap();
    let halves: Wanted =
        wanted.iter().take(90).map(|(id, (row, log))| (id.clone(), (row[..4].to_vec(), *log))).collect();
    publish(&mut *replacing, &other, &[], &halves).unwrap();
    let (state, held, _) = place.read();
    assert!(held == halves && state.unwrap().model_id == "model-b", "{name}: replaced");
    let shown = format!("{sink:?}");
    assert!(!shown.contains("secret"), "{shown}");
}

/// Popularity alone: no vector and no version moves.
pub(crate) fn sets_popularity_alone(place: SinkPlace<'_>) {
    let mut wanted = table(300, 6);
    let mut sink = place.open();
    publish(&mut *sink, &update(FULL, 1, 1), &[], &wanted).unwrap();
    let (_, _, versions) = place.read();
    sink.begin(&update(DELTA, 1, 2)).unwrap();
    wanted.values_mut().step_by(3).for_each(|(_, log_frequency)| *log_frequency = -1.5);
    let moved = wanted.iter().step_by(3).map(|(item_id, (_, log_frequency))| (item_id.as_str(), *log_frequency));
    sink.set_popularity(&moved.chain([("never there", 0.0)]).collect::<Vec<_>>()).unwrap();
    sink.commit().unwrap();
    let (state, held, later) = place.read();
    assert!(held == wanted && later == versions, "{}", sink.name());
    assert_eq!(state.unwrap().version, Version { epoch: 1, step: 2 });
}

/// A server that takes connections and says nothing.
pub(crate) fn hanging() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        listener.incoming().for_each(|stream| held.push(stream));
    });
    address.to_string()
}

/// A server that answers every request with the same.
pub(crate) fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address.to_string()
}

#[test]
fn sinks_of_servers_that_are_away_hang_or_answer_nonsense_are_named() {
    for (sink, scheme) in [("redis", "redis"), ("postgres", "postgres"), ("opensearch", "http")] {
        let open = |address: &str, timeout_ms: &str| {
            open_sink(sink, &format!("{scheme}://me:canary@{address}"), &[("timeout_ms", timeout_ms)]).unwrap()
        };
        let full = update(FULL, 1, 1);
        let hangs = refused(open(&hanging(), "200").begin(&full), &[sink, "200 ms"]);
        let away = refused(open("127.0.0.1:1", "5000").begin(&full), &[sink, "efused"]);
        let nonsense = "HTTP/1.1 500 Oh\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
        let nonsense = refused(open(&answering(nonsense), "5000").begin(&full), &[sink]);
        for message in [hangs, away, nonsense] {
            assert!(!message.contains("canary"), "{message}");
        }
        let error = open_sink(sink, "nowhere canary", &[]).unwrap_err().to_string();
        assert!(error.contains(sink) && error.contains("://") && !error.contains("canary"), "{error}");
    }
}

#[test]
fn redis_holds_what_was_published_and_nothing_else() {
    let Some(server) = sink_servers::redis() else { return };
    let target = sink_servers::redis_url(&server);
    let place = SinkPlace { sink: "redis", target: &target, name: "contract" };
    holds_what_was_published_and_nothing_else(place);
    sets_popularity_alone(SinkPlace { name: "popularity", ..place });
}

#[test]
fn postgres_holds_what_was_published_and_nothing_else() {
    let Some(server) = sink_servers::postgres() else { return };
    let target = sink_servers::postgres_url(&server);
    let place = SinkPlace { sink: "postgres", target: &target, name: "contract" };
    holds_what_was_published_and_nothing_else(place);
    sets_popularity_alone(SinkPlace { name: "popularity", ..place });
}

#[test]
fn opensearch_holds_what_was_published_and_nothing_else() {
    let Some(server) = sink_servers::opensearch() else { return };
    let place = SinkPlace { sink: "opensearch", target: server.url(), name: "contract" };
    holds_what_was_published_and_nothing_else(place);
}

#[test]
fn redis_that_holds_something_else_or_refuses_is_named() {
    let Some(server) = sink_servers::redis() else { return };
    let target = sink_servers::redis_url(&server);
    let place = SinkPlace { sink: "redis", target: &target, name: "foreign" };
    let mut connection = redis::Client::open(target.as_str()).unwrap().get_connection().unwrap();
    redis::cmd("HSET").arg("foreign:rows").arg("a").arg("b").exec(&mut connection).unwrap();
    refused(place.open().begin(&update(FULL, 1, 1)), &["redis", "has not written", "another prefix"]);

    // A plain hash of rows, without an index over it.
    let plain = || open_sink("redis", &target, &[("name", "plain"), ("layout", "hash")]).unwrap();
    publish(&mut *plain(), &update(FULL, 1, 1), &[], &table(50, 7)).unwrap();
    let index: bool = redis::cmd("EXISTS").arg("plain:vectors").query(&mut connection).unwrap();
    assert!(!index);
    let plain = SinkPlace { name: "plain", ..place };
    refused(plain.open().begin(&update(FULL, 2, 1)), &["redis", "layout"]);
    let mut n = 0;
    assert!(plain.open().read(&mut |_| n += 1).unwrap().is_some() && n == 50);

    // A server that asks for a password, and one that is full.
    let Some(closed) = SinkServer::redis_with(&["--requirepass", "another"]) else { return };
    let mut sink = open_sink("redis", &format!("redis://:secret@127.0.0.1:{}", closed.port()), &[]).unwrap();
    let message = refused(sink.begin(&update(FULL, 1, 1)), &["redis", "password"]);
    assert!(!message.contains("secret"), "{message}");
    let Some(small) = SinkServer::redis_with(&["--maxmemory", "3mb"]) else { return };
    let mut sink = open_sink("redis", &sink_servers::redis_url(&small), &[]).unwrap();
    refused(publish(&mut *sink, &update(FULL, 1, 1), &[], &table(20_000, 8)), &["redis", "full", "maxmemory"]);
}

#[test]
fn redis_that_lost_everything_is_made_whole_by_a_full_update() {
    let Some(mut server) = SinkServer::redis_with(&[]) else { return };
    let target = sink_servers::redis_url(&server);
    let place = SinkPlace { sink: "redis", target: &target, name: "lost" };
    let mut sink = place.open();
    publish(&mut *sink, &update(FULL, 1, 1), &[], &table(500, 9)).unwrap();
    server.kill();
    refused(publish(&mut *sink, &update(DELTA, 1, 2), &[], &table(10, 10)), &["redis"]);
    server.start();
    refused(publish(&mut *sink, &update(DELTA, 1, 3), &[], &table(10, 10)), &["redis", "full update"]);
    let wanted = table(400, 11);
    publish(&mut *sink, &update(FULL, 2, 4), &[], &wanted).unwrap();
    assert!(place.read().1 == wanted);
    // A server that is stopped in the middle of an update hangs.
    let mut sink = open_sink("redis", &target, &[("name", "lost"), ("timeout_ms", "300")]).unwrap();
    sink.begin(&update(FULL, 3, 1)).unwrap();
    server.signal("STOP");
    refused(sink.upsert(&rows(&wanted)), &["redis", "300 ms"]);
    server.signal("CONT");
    publish(&mut *sink, &update(FULL, 4, 1), &[], &wanted).unwrap();
}

#[test]
fn redis_refuses_a_worker_that_a_newer_one_overtook_in_its_update() {
    let Some(server) = sink_servers::redis() else { return };
    let target = sink_servers::redis_url(&server);
    let place = SinkPlace { sink: "redis", target: &target, name: "overtaken" };
    let (mut old, mut new) = (place.open(), place.open());
    old.begin(&update(FULL, 1, 1)).unwrap();
    old.upsert(&rows(&table(100, 12))).unwrap();
    let wanted = table(80, 13);
    publish(&mut *new, &update(FULL, 2, 1), &[], &wanted).unwrap();
    refused(old.upsert(&rows(&table(120, 14))), &["redis", "another worker", "epoch 2"]);
    assert!(place.read().1 == wanted);
}

#[test]
fn postgres_that_holds_something_else_or_refuses_is_named() {
    let Some(server) = sink_servers::postgres() else { return };
    let target = sink_servers::postgres_url(&server);
    let wrong = target.replace("secret", "wrong-canary");
    let message =
        refused(open_sink("postgres", &wrong, &[]).unwrap().begin(&update(FULL, 1, 1)), &["postgres", "password"]);
    assert!(!message.contains("canary"), "{message}");
    // Rows of somebody else, after an update that was never committed left nothing.
    let place = SinkPlace { sink: "postgres", target: &target, name: "foreign" };
    let mut sink = place.open();
    sink.begin(&update(FULL, 1, 1)).unwrap();
    sink.upsert(&rows(&table(30, 15))).unwrap();
    drop(sink);
    assert_eq!(place.read(), (None, Wanted::new(), BTreeMap::new()));
    execute(
        &target,
        "CREATE TABLE foreign_rows (item_id text PRIMARY KEY, embedding vector(8), log_frequency real,
                      epoch bigint, step bigint); INSERT INTO foreign_rows VALUES ('a', NULL, 0, 0, 0)",
    );
    let foreign = SinkPlace { name: "foreign_rows", ..place };
    refused(foreign.open().begin(&update(FULL, 1, 1)), &["postgres", "has not written", "another table"]);
    execute(&target, "CREATE TABLE wider (item_id text PRIMARY KEY, embedding vector(9))");
    let wider = SinkPlace { name: "wider", ..place };
    refused(wider.open().begin(&update(FULL, 1, 1)), &["postgres", "dimension 9, not 8"]);
    // A user who may not make tables.
    execute(&target, "CREATE ROLE poor LOGIN PASSWORD 'poor'");
    let poor = target.replace("postgres:secret", "poor:poor");
    refused(open_sink("postgres", &poor, &[]).unwrap().begin(&update(FULL, 1, 1)), &["postgres", "CREATE"]);
}

#[test]
fn postgres_lets_one_writer_in_and_shows_whole_updates() {
    let Some(server) = sink_servers::postgres() else { return };
    let target = sink_servers::postgres_url(&server);
    let place = SinkPlace { sink: "postgres", target: &target, name: "one_writer" };
    let (wanted, other) = (table(200, 16), table(150, 17));
    publish(&mut *place.open(), &update(FULL, 1, 1), &[], &wanted).unwrap();
    let mut first = place.open();
    first.begin(&update(FULL, 2, 1)).unwrap();
    first.upsert(&rows(&other)).unwrap();
    // Readers see nothing of it, and another writer does not wait without end.
    assert!(place.read().1 == wanted);
    let late = open_sink("postgres", &target, &[("name", "one_writer"), ("timeout_ms", "300")]);
    refused(late.unwrap().begin(&update(FULL, 3, 1)), &["postgres", "one_writer"]);
    first.commit().unwrap();
    assert!(place.read().1 == other);
    // What no text can hold is left out, and keeps nobody else out.
    let mut poison = other.clone();
    poison.insert("a\0b".to_owned(), (vec![0.0; DIM], 0.0));
    publish(&mut *place.open(), &update(FULL, 4, 1), &["x\0"], &poison).unwrap();
    assert!(place.read().1 == other);
}

#[test]
fn opensearch_that_holds_something_else_or_is_full_is_named() {
    let Some(server) = sink_servers::opensearch() else { return };
    let place = SinkPlace { sink: "opensearch", target: server.url(), name: "full" };
    let mut sink = place.open();
    let wanted = table(40, 18);
    publish(&mut *sink, &update(FULL, 1, 1), &[], &wanted).unwrap();
    // What the server does with an index when its disk is nearly full.
    let settings = |value: &str| format!(r#"{{"index.blocks.read_only_allow_delete": {value}}}"#);
    put(&format!("{}/full/_settings", server.url()), &settings("true"));
    refused(publish(&mut *sink, &update(DELTA, 1, 2), &[], &table(5, 19)), &["opensearch", "full"]);
    put(&format!("{}/full/_settings", server.url()), &settings("null"));
    publish(&mut *sink, &update(FULL, 2, 3), &[], &wanted).unwrap();
    assert!(place.read().1 == wanted);
    // A row that the server refuses is told by its name.
    sink.begin(&update(DELTA, 2, 4)).unwrap();
    let short = ItemRow { item_id: "too short", embedding: &[1.0], log_frequency: 0.0 };
    refused(sink.upsert(&[short]), &["opensearch", "\"too short\"", "imension"]);
    put(&format!("{}/other", server.url()), "{}");
    let other = SinkPlace { name: "other", ..place };
    refused(other.open().begin(&update(FULL, 1, 1)), &["opensearch", "no vector field", "another index"]);
    // Identifiers beyond what a document's may be.
    let long = BTreeMap::from([("x".repeat(1_000), (vec![0.5; DIM], 0.0)), (String::new(), (vec![0.25; DIM], 0.0))]);
    let place = SinkPlace { name: "long", ..place };
    publish(&mut *place.open(), &update(FULL, 1, 1), &[], &long).unwrap();
    assert!(place.read().1 == long);
    // Credentials are refused by what stands before a cluster.
    let answer = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
    let target = format!("http://me:canary@{}", answering(answer));
    let message =
        refused(open_sink("opensearch", &target, &[]).unwrap().begin(&update(FULL, 1, 1)), &["opensearch", "password"]);
    assert!(!message.contains("canary"), "{message}");
}

#[test]
fn opensearch_tells_a_worker_that_was_overtaken_when_it_commits() {
    let Some(server) = sink_servers::opensearch() else { return };
    let place = SinkPlace { sink: "opensearch", target: server.url(), name: "overtaken" };
    let (mut old, mut new) = (place.open(), place.open());
    old.begin(&update(FULL, 1, 1)).unwrap();
    let wanted = table(120, 20);
    publish(&mut *new, &update(FULL, 2, 1), &[], &wanted).unwrap();
    // The server itself keeps what is newer.
    old.upsert(&rows(&table(100, 21))).unwrap();
    refused(old.commit(), &["opensearch", "another worker"]);
    assert!(place.read().1 == wanted);
}

/// Does something in PostgreSQL.
pub(crate) fn execute(target: &str, statements: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(target, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(statements).await.unwrap();
    });
}

/// Puts something to OpenSearch.
fn put(url: &str, body: &str) {
    let answer = ureq::put(url).header("Content-Type", "application/json").send(body).unwrap();
    assert!(answer.status().is_success());
}

/// The snippets of docs/publishing.md rank as the full score does.
#[test]
fn sinks_snippets_rank_as_the_full_score_does() {
    let modules = ["confluent_kafka", "duckdb", "faiss", "numpy", "psycopg", "redis"];
    let Some(_) = python(&modules) else { return };
    let wanted = table(300, 22);
    let (query, beta_tau) = (&table(1, 23).into_values().next().unwrap().0, 0.05);
    let score = |(embedding, log_frequency): &(Vec<f32>, f32)| {
        let inner: f32 = embedding.iter().zip(query).map(|(left, right)| left * right).sum();
        inner + beta_tau * log_frequency
    };
    let mut ranked: Vec<(&String, f32)> = wanted.iter().map(|(item_id, row)| (item_id, score(row))).collect();
    ranked.sort_by(|left, right| right.1.total_cmp(&left.1));
    let expected: Vec<&String> = ranked.iter().take(20).map(|(item_id, _)| *item_id).collect();
    let (redis, postgres, opensearch) = (sink_servers::redis(), sink_servers::postgres(), sink_servers::opensearch());
    let (kafka, folder) = (Broker::shared(), tempfile::tempdir().unwrap());
    let places = [
        ("parquet", "lake", Some(folder.path().display().to_string())),
        ("kafka", "localhost:9092", kafka.as_ref().map(|broker| broker.bootstrap().to_owned())),
        ("redis", "redis://localhost:6379/0", redis.as_ref().map(|server| sink_servers::redis_url(server))),
        (
            "postgres",
            "postgres://localhost/postgres",
            postgres.as_ref().map(|server| sink_servers::postgres_url(server)),
        ),
        ("opensearch", "http://localhost:9200", opensearch.as_ref().map(|server| server.url().to_owned())),
    ];
    for (sink, shown, target) in places {
        let Some(target) = target else { continue };
        let address = if sink == "kafka" { format!("kafka://{target}") } else { target.clone() };
        // Whatever other tests have left there goes.
        let mut publisher = open_sink(sink, &address, &[("replace", "true")]).unwrap();
        let epoch = publisher.state().unwrap().map_or(1, |state| state.version.epoch + 1);
        publish(&mut *publisher, &update(FULL, epoch, 1), &[], &wanted).unwrap();
        if sink == "postgres" {
            execute(&target, "CREATE INDEX ON negstream_items USING hnsw (embedding vector_ip_ops)");
        }
        let snippets: &[&str] = match sink {
            "kafka" => &["kafka", "kafka faiss"],
            "parquet" => &["parquet duckdb"],
            _ => &[sink],
        };
        let mut program = "import json\n".to_owned();
        for name in snippets {
            // Each goes on where the one before it ends.
            let docs = include_str!("../../docs/publishing.md");
            let (_, snippet) = docs.split_once(&format!("<!-- snippet: {name} -->\n```python\n")).expect("a snippet");
            let (snippet, _) = snippet.split_once("\n```").expect("its end");
            program.push_str(&snippet.replace(shown, &target));
            assert!(program.contains(&target), "{name}");
            let call = format!("\nprint(json.dumps(recommend({query:?}, {beta_tau})))\n");
            let output = python(&modules).unwrap().args(["-c", &format!("{program}{call}")]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let found: Vec<String> = serde_json::from_str(&said).unwrap_or_else(|error| {
                panic!("{name}: {error}: {said}{}", String::from_utf8_lossy(&output.stderr));
            });
            assert!(found.iter().eq(expected.iter().copied()), "{name}: {found:?}, not {expected:?}");
            program.push('\n');
        }
    }
}
