//! Sinks that store half-precision numbers: what is read back, what an index over it finds, and that precisions are not mixed.

use negstream::publish::StoredPrecision;

use crate::sink_servers;
use crate::sinks::{FULL, Wanted, execute, open_sink, publish, refused, table, update};
use crate::support::python;

#[test]
fn half_precision_is_read_back_rounded_and_is_not_mixed_with_single() {
    let (redis, postgres) = (sink_servers::redis(), sink_servers::postgres());
    let redis = redis.as_ref().map(|server| ("redis", sink_servers::redis_url(server)));
    let postgres = postgres.as_ref().map(|server| ("postgres", sink_servers::postgres_url(server)));
    for (sink, target) in redis.into_iter().chain(postgres) {
        let single = [("name", "half"), ("layout", "hash")];
        let single = &single[..if sink == "redis" { 2 } else { 1 }];
        let half: Vec<(&str, &str)> = single.iter().copied().chain([("precision", "f16")]).collect();
        let mut wanted = table(1_500, 71);
        let mut writer = open_sink(sink, &target, &half).unwrap();
        publish(&mut *writer, &update(FULL, 1, 1), &[], &wanted).unwrap();
        writer.begin(&update(crate::sinks::DELTA, 1, 2)).unwrap();
        writer.set_popularity(&[("item-9", -0.5)]).unwrap();
        writer.commit().unwrap();
        wanted.get_mut("item-9").unwrap().1 = -0.5;
        let exact = wanted.clone();
        wanted.values_mut().for_each(|(embedding, _)| StoredPrecision::F16.precision().round(embedding));
        assert!(wanted != exact);
        let mut held = Wanted::new();
        let mut reader = open_sink(sink, &target, &half).unwrap();
        reader.read(&mut |row| drop(held.insert(row.item_id, (row.embedding, row.log_frequency)))).unwrap();
        assert!(held == wanted, "{sink}");
        // A worker of the other precision is told, and may replace what is there.
        let mut other = open_sink(sink, &target, single).unwrap();
        let word = if sink == "redis" { "hash-f16" } else { "halfvec" };
        refused(other.begin(&update(FULL, 2, 1)), &[sink, word]);
        let replacing: Vec<(&str, &str)> = single.iter().copied().chain([("replace", "true")]).collect();
        let mut other = open_sink(sink, &target, &replacing).unwrap();
        publish(&mut *other, &update(FULL, 2, 1), &[], &exact).unwrap();
        let mut held = Wanted::new();
        other.read(&mut |row| drop(held.insert(row.item_id, (row.embedding, row.log_frequency)))).unwrap();
        assert!(held == exact, "{sink}");
    }
}

/// The snippet of docs/publishing.md, with the types of half precision, finds what a search through all rows does.
#[test]
fn halfvec_index_finds_the_nearest() {
    let Some(server) = sink_servers::postgres() else { return };
    let Some(mut python) = python(&["psycopg"]) else { return };
    let target = sink_servers::postgres_url(&server);
    let wanted = table(2_000, 72);
    let mut sink = open_sink("postgres", &target, &[("name", "halves"), ("precision", "f16")]).unwrap();
    publish(&mut *sink, &update(FULL, 1, 1), &[], &wanted).unwrap();
    execute(&target, "CREATE INDEX ON halves USING hnsw (embedding halfvec_ip_ops)");
    let (query, beta_tau) = (&table(1, 73).into_values().next().unwrap().0, 0.05);
    let docs = include_str!("../../docs/publishing.md");
    let (_, snippet) = docs.split_once("<!-- snippet: postgres -->\n```python\n").expect("a snippet");
    let (snippet, _) = snippet.split_once("\n```").expect("its end");
    let snippet = snippet.replace("postgres://localhost/postgres", &target).replace("::vector", "::halfvec");
    let snippet = snippet.replace("negstream_items", "halves");
    let program = format!("import json\n{snippet}\nprint(json.dumps(recommend({query:?}, {beta_tau})))\n");
    let output = python.args(["-c", &program]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let found: Vec<String> =
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let score = |(embedding, log_frequency): &(Vec<f32>, f32)| {
        embedding.iter().zip(query).map(|(left, right)| left * right).sum::<f32>() + beta_tau * log_frequency
    };
    let mut ranked: Vec<(&String, f32)> = wanted.iter().map(|(item_id, row)| (item_id, score(row))).collect();
    ranked.sort_by(|left, right| right.1.total_cmp(&left.1));
    let kept = found.iter().filter(|item_id| ranked[..20].iter().any(|(best, _)| best == item_id)).count();
    assert!(kept >= 19, "{kept} of 20 in single precision are found: {found:?}");
}
