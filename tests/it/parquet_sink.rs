//! The sink in files of Parquet: what it holds, that its files stay few, that one line of SQL reads them at every moment, and
//! who is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use axum::http::Method;
use negstream::publish::{EmbeddingSink, ItemRow, SinkError};

use crate::s3::{BUCKET, S3, S3Fault};
use crate::sinks::{
    DELTA, DIM, FULL, SinkPlace, Wanted, holds_what_was_published_and_nothing_else, open_sink, publish, refused,
    sets_popularity_alone, table, update,
};
use crate::support::{Place, python, read, tree};

fn held(sink: &mut dyn EmbeddingSink) -> Wanted {
    let mut rows = Wanted::new();
    sink.read(&mut |row| drop(rows.insert(row.item_id, (row.embedding, row.log_frequency)))).unwrap();
    rows
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let names = tree(folder).into_keys();
    names.collect()
}

/// Applies so many updates of every kind to `sink` and to `wanted`, with `look` after each.
fn stream(sink: &mut dyn EmbeddingSink, wanted: &mut Wanted, epoch: u64, n: u64, mut look: impl FnMut(&Wanted, u64)) {
    for step in 2..2 + n {
        let changed: Wanted = table(400, 100 + step)
            .into_iter()
            .filter(|(item_id, _)| item_id.len() as u64 % 3 == step % 3)
            .take(30)
            .collect();
        let gone: Vec<String> = wanted
            .keys()
            .filter(|item_id| !changed.contains_key(*item_id))
            .skip(step as usize * 7 % 90)
            .take(5)
            .cloned()
            .collect();
        sink.begin(&update(DELTA, epoch, step)).unwrap();
        sink.remove(&gone.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let rows: Vec<ItemRow<'_>> = changed
            .iter()
            .map(|(item_id, (embedding, log_frequency))| ItemRow { item_id, embedding, log_frequency: *log_frequency })
            .collect();
        sink.upsert(&rows).unwrap();
        wanted.retain(|item_id, _| !gone.contains(item_id));
        wanted.extend(changed.clone());
        if step % 4 == 0 {
            let others = wanted.iter_mut().filter(|(item_id, _)| !changed.contains_key(*item_id));
            let moved: Vec<(&str, f32)> = others
                .map(|(item_id, (_, log_frequency))| {
                    *log_frequency -= 0.25;
                    (item_id.as_str(), *log_frequency)
                })
                .collect();
            sink.set_popularity(&moved).unwrap();
        }
        sink.commit().unwrap();
        look(wanted, step);
    }
}

#[test]
fn parquet_holds_what_was_published_and_nothing_else() {
    let place = Place::new();
    let target = place.path("lake").display().to_string();
    let place = SinkPlace { sink: "parquet", target: &target, name: "contract" };
    holds_what_was_published_and_nothing_else(place);
    sets_popularity_alone(SinkPlace { name: "below/popularity", ..place });
}

#[test]
fn parquet_files_stay_few_and_hold_the_table_through_every_merge() {
    let place = Place::new();
    let target = place.path("lake").display().to_string();
    let mut sink = open_sink("parquet", &target, &[("files", "6")]).unwrap();
    let mut wanted = table(300, 41);
    publish(&mut *sink, &update(FULL, 1, 1), &[], &wanted).unwrap();
    let folder = place.path("lake/vectors");
    let mut most = 0;
    stream(&mut *sink, &mut wanted, 1, 60, |wanted, step| {
        most = most.max(files(&folder).len());
        assert!(held(&mut *open_sink("parquet", &target, &[]).unwrap()) == *wanted, "step {step}");
    });
    assert!((5..=12).contains(&most), "{most} files");
    // A full update leaves one.
    publish(&mut *open_sink("parquet", &target, &[]).unwrap(), &update(FULL, 2, 1), &[], &table(20, 42)).unwrap();
    assert_eq!(files(&folder).len(), 1);
}

#[test]
fn parquet_snippet_reads_the_table_at_every_moment_of_a_merge() {
    let Some(_) = python(&["duckdb", "pandas", "pyarrow"]) else { return };
    let docs = include_str!("../../docs/publishing.md");
    let (_, sql) = docs.split_once("<!-- snippet: parquet -->\n```sql\n").expect("a snippet");
    let (sql, _) = sql.split_once("\n```").expect("its end");
    let (_, pandas) = docs.split_once("<!-- snippet: parquet pandas -->\n```python\n").expect("a snippet");
    let (pandas, _) = pandas.split_once("\n```").expect("its end");
    let place = Place::new();
    let target = place.path("lake").display().to_string();
    let mut sink = open_sink("parquet", &target, &[("files", "4")]).unwrap();
    let mut wanted = table(200, 43);
    publish(&mut *sink, &update(FULL, 1, 1), &[], &wanted).unwrap();
    // What each update alone writes, from a sink that merges nothing.
    let unmerged = place.path("unmerged").display().to_string();
    let mut twin = open_sink("parquet", &unmerged, &[("files", "10000")]).unwrap();
    publish(&mut *twin, &update(FULL, 1, 1), &[], &wanted).unwrap();
    stream(&mut *twin, &mut wanted.clone(), 1, 14, |_, _| {});
    let written = tree(&place.path("unmerged/vectors"));
    // What a reader may find: the files before an update, its own and a merged one together, and every state of tidying up.
    let (folder, moments) = (place.path("lake/vectors"), place.path("moments"));
    let mut before: BTreeMap<PathBuf, Vec<u8>> = tree(&folder);
    let mut n_moments = 0;
    let mut expected = Vec::new();
    stream(&mut *sink, &mut wanted, 1, 14, |wanted, step| {
        let after = tree(&folder);
        let file = |number: u64| PathBuf::from(format!("{number:010}.parquet"));
        let last = before.keys().next_back().unwrap().file_stem().unwrap().to_string_lossy().parse::<u64>().unwrap();
        let mut both = before.clone();
        both.insert(file(last + 1), written[&file(step - 1)].clone());
        both.extend(after.clone());
        loop {
            let moment = moments.join(format!("{n_moments:03}")).join("vectors");
            std::fs::create_dir_all(&moment).unwrap();
            both.iter()
                .for_each(|(name, bytes)| std::fs::write(moment.join(name.file_name().unwrap()), bytes).unwrap());
            expected.push(wanted.clone());
            n_moments += 1;
            let Some(oldest) = both.keys().find(|name| !after.contains_key(*name)).cloned() else { break };
            both.remove(&oldest);
        }
        before = after;
    });
    assert!(expected.len() > 25, "{} moments", expected.len());
    let program = "import duckdb, json, os, sys\n\
         for moment in sorted(os.listdir('.')):\n    \
             os.chdir(moment)\n    \
             found = duckdb.sql(open('../../table.sql').read()).fetchall()\n    \
             exec(open('../../table.py').read())\n    \
             again = [(r.item_id, list(map(float, r.embedding)), float(r.log_frequency)) for r in items.itertuples()]\n    \
             assert sorted(again) == sorted((i, list(e), f) for i, e, f in found), moment\n    \
             print(json.dumps(found)); os.chdir('..')\n";
    std::fs::write(place.path("table.sql"), sql.replace("lake/", "")).unwrap();
    std::fs::write(place.path("table.py"), pandas.replace("lake/", "")).unwrap();
    let output = python(&["duckdb"]).unwrap().args(["-c", program]).current_dir(&moments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().count(), expected.len());
    for (moment, (line, wanted)) in said.lines().zip(&expected).enumerate() {
        let rows: Vec<(String, Vec<f32>, f32)> = serde_json::from_str(line).unwrap();
        let found: Wanted = rows.into_iter().map(|(item_id, embedding, log)| (item_id, (embedding, log))).collect();
        assert!(found == *wanted, "moment {moment}: {} rows, not {}", found.len(), wanted.len());
    }
}

#[test]
fn parquet_refuses_whoever_was_overtaken_and_folders_of_others() {
    let place = Place::new();
    let target = place.path("lake").display().to_string();
    let at = SinkPlace { sink: "parquet", target: &target, name: "one" };
    let (mut old, mut new) = (at.open(), at.open());
    let wanted = table(50, 44);
    publish(&mut *old, &update(FULL, 1, 1), &[], &wanted).unwrap();
    old.begin(&update(DELTA, 1, 2)).unwrap();
    publish(&mut *new, &update(FULL, 2, 1), &[], &wanted).unwrap();
    refused(old.commit(), &["parquet", "another worker", "epoch 2"]);
    assert!(at.read().1 == wanted);
    // A folder that was emptied.
    std::fs::remove_dir_all(place.path("lake/one")).unwrap();
    let lost = publish(&mut *new, &update(DELTA, 2, 2), &[], &Wanted::new());
    assert!(matches!(&lost, Err(SinkError::Away { .. })), "{lost:?}");
    refused(lost, &["full update"]);
    publish(&mut *new, &update(FULL, 3, 3), &[], &wanted).unwrap();

    std::fs::create_dir_all(place.path("lake/theirs")).unwrap();
    std::fs::write(place.path("lake/theirs/sales.parquet"), "not ours").unwrap();
    let theirs = SinkPlace { name: "theirs", ..at };
    refused(theirs.open().begin(&update(FULL, 1, 1)), &["parquet", "sales.parquet", "has not written"]);
    std::fs::write(place.path("lake/one/0000000099.parquet"), read(&place.path("lake/theirs/sales.parquet"))).unwrap();
    refused(at.open().begin(&update(FULL, 9, 1)), &["parquet", "0000000099.parquet", "damaged"]);
    std::fs::write(place.path("file"), "").unwrap();
    let file = place.path("file").display().to_string();
    refused(open_sink("parquet", &file, &[]).unwrap().begin(&update(FULL, 1, 1)), &["parquet", &file]);
    for (target, name, words) in [
        ("", "a", "no target"),
        ("ftp://canary@x/y", "a", "s3://"),
        ("s3://k:canary@b/c", "a", "AWS_"),
        ("x", "../a", "folder"),
    ] {
        let said = open_sink("parquet", target, &[("name", name)]).unwrap_err().to_string();
        assert!(said.contains(words) && !said.contains("canary"), "{said}");
    }
}

#[test]
fn parquet_in_an_object_store_is_the_same_also_where_answers_are_lost() {
    let s3 = S3::start();
    let target = format!("s3://{BUCKET}/lake");
    let storage = format!(
        "{{aws_endpoint=\"http://{}\",aws_allow_http=\"true\",aws_region=\"eu-test-1\",aws_access_key_id=\"t\",\
         aws_secret_access_key=\"canary\"}}",
        s3.address()
    );
    let open = || {
        open_sink("parquet", &target, &[("files", "4"), ("timeout_ms", "700"), ("storage_options", &storage)]).unwrap()
    };
    let mut sink = open();
    assert!(!format!("{sink:?}").contains("canary"));
    let mut wanted = table(200, 45);
    s3.fail(Method::PUT, "lake", 1, S3Fault::Silence);
    publish(&mut *sink, &update(FULL, 1, 1), &[], &wanted).unwrap();
    stream(&mut *sink, &mut wanted, 1, 12, |wanted, step| assert!(held(&mut *open()) == *wanted, "step {step}"));
    let keys = s3.keys();
    assert!(keys.len() <= 8 && keys.iter().all(|key| key.starts_with("lake/vectors/00")), "{keys:?}");
    let mut late = open();
    refused(late.begin(&update(FULL, 1, 900)), &["parquet", "not older"]);
    publish(&mut *late, &update(FULL, 2, 1), &[], &wanted).unwrap();
    let overtaken = Wanted::from([("x".to_owned(), (vec![0.0; DIM], 0.0))]);
    refused(publish(&mut *sink, &update(DELTA, 1, 90), &[], &overtaken), &["parquet", "not older"]);
    assert!(held(&mut *open()) == wanted);
}
