//! Objectives by configuration alone: what each is there for, on a log with known structure and on a real one.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::support::{Place, alone, data, run};

/// Of the ten nearest items of each item that came often enough to be known, the share that is of another topic.
fn impurity(place: &Place, checkpoints: &str) -> f64 {
    let file = std::fs::File::open(place.newest(checkpoints).join("items.parquet")).unwrap();
    let (mut topics, mut vectors) = (Vec::new(), Vec::new());
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let (names, counts) = (column("item_id").as_string::<i32>(), column("count").as_primitive::<Int64Type>());
        let embeddings = column("embedding").as_fixed_size_list();
        for row in (0..batch.num_rows()).filter(|row| counts.value(*row) >= 5) {
            topics.push(names.value(row).rsplit_once('-').unwrap().0.to_owned());
            vectors.push(embeddings.value(row).as_primitive::<Float32Type>().values().to_vec());
        }
    }
    let cosine = |a: usize, b: usize| vectors[a].iter().zip(&vectors[b]).map(|(a, b)| a * b).sum::<f32>();
    let (mut strangers, mut all) = (0, 0);
    for item in 0..topics.len() {
        let mut others: Vec<usize> = (0..topics.len()).filter(|other| *other != item).collect();
        others.select_nth_unstable_by(10, |a, b| cosine(item, *b).total_cmp(&cosine(item, *a)));
        strangers += others[..10].iter().filter(|other| topics[**other] != topics[item]).count();
        all += 10;
    }
    f64::from(strangers as u32) / f64::from(all)
}

/// Every user has three interests at once, and their items come in turn.
#[test]
fn i2i_lift_gives_purer_neighbours() {
    let place = Place::new();
    let world = ["--topics", "50", "--items", "600", "--lifetime", "300000", "--interleave", "1"];
    let mut synth = place.negstream(&[&["synth", "--events", "100000", "-o", "log.parquet"][..], &world].concat());
    run(&mut synth).ended(0);
    let of = |acceptance: &str, window: usize| {
        let objective =
            format!(r#"objective=[{{kind="i2i",acceptance="{acceptance}",window={window},half_life=100000}}]"#);
        let settings = [objective.as_str(), "context.context_rows=false"];
        let checkpoints = format!("{acceptance}-{window}");
        let report = place.replay_in(&checkpoints, &["log.parquet"], &settings);
        (impurity(&place, &checkpoints), report["evaluation"]["hr@20"].as_f64().unwrap())
    };
    for window in [1, 5] {
        let [(raw, raw_hits), (lift, lift_hits), (agreement, agreement_hits)] =
            ["raw", "lift", "agreement"].map(|acceptance| of(acceptance, window));
        eprintln!(
            "window {window}: of other topics raw {raw:.4}, lift {lift:.4}, agreement {agreement:.4}; HR@20 \
             {raw_hits:.4}, {lift_hits:.4}, {agreement_hits:.4}"
        );
        // With five pairs for every event the accidents of raw pairs average out by themselves.
        let most = if window == 1 { 0.7 } else { 1.0 };
        assert!(lift < most * raw, "window {window}: {lift}, raw {raw}");
        assert!(lift_hits > raw_hits, "window {window}: {lift_hits}, raw {raw_hits}");
    }
}

#[test]
fn objectives_all_learn_from_movielens() {
    let Some(log) = data("ml-100k") else { return };
    let _alone = alone();
    let evaluation = |settings: &[&str]| -> Value { Place::new().replay(&log, settings)["evaluation"].clone() };
    let hit_rate = |evaluation: &Value| evaluation["hr@20"].as_f64().unwrap();
    for objective in ["nce", "cpc"] {
        let found = evaluation(&[&format!("objective={objective}")]);
        assert!(hit_rate(&found) >= 0.25, "{objective}: {found}");
    }
    let alone = hit_rate(&evaluation(&[]));
    for added in ["{kind=\"infomax\"}", "{kind=\"views\",weight=0.05}"] {
        let found = evaluation(&[&format!("objective=[{{kind=\"infonce\"}},{added}]")]);
        assert!(hit_rate(&found) >= 0.98 * alone, "{added}: {found}, alone {alone}");
    }
}
