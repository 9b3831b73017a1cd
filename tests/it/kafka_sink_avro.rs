//! The sink in Kafka with `encoding = "avro"`: frames, schemas and tombstones, as a reader in Python takes them; a registry in trouble.

use std::collections::BTreeMap;

use negstream::publish::{EmbeddingSink, ItemRow, SinkError, UserQuery};
use serde_json::{Value, json};

use crate::kafka_harness::Broker;
use crate::kafka_sink::{Seen, consume, open};
use crate::sinks::{DELTA, DIM, FULL, Wanted, publish, refused, table, update};
use crate::stub_registry::{Mood, StubRegistry};
use crate::support::python;

fn open_avro(broker: &Broker, name: &str, registry: &str) -> Box<dyn EmbeddingSink> {
    let registry = format!("{{ url = '{registry}', user = 'me', password = 'canary', timeout_ms = 400 }}");
    open(broker, name, &[("encoding", "avro"), ("users", "true"), ("registry", &registry)])
}

/// What the snippet of docs/publishing.md reads of these values, of which an empty one is a tombstone.
fn decoded_in_python(registry: &StubRegistry, values: &[Option<Vec<u8>>]) -> Option<Vec<Value>> {
    let mut python = python(&["fastavro"])?;
    let docs = include_str!("../../docs/publishing.md");
    let (_, snippet) = docs.split_once("<!-- snippet: kafka avro -->\n```python\n").expect("a snippet");
    let (snippet, _) = snippet.split_once("\n```").expect("its end");
    let snippet = snippet.replace("http://localhost:8081", &registry.url());
    let hex = |bytes: &Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let values: Vec<Option<String>> = values.iter().map(|value| value.as_ref().map(hex)).collect();
    let values = serde_json::to_string(&values).unwrap();
    let program = format!(
        "{snippet}\nfor value in json.loads('{values}'):\n    print(json.dumps(decoded(value and bytes.fromhex(value))))\n"
    );
    let output = python.args(["-c", &program]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(said.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

#[test]
fn kafka_avro_is_read_by_the_registered_schemas_and_tombstones_stay_tombstones() {
    let Some(broker) = Broker::shared() else { return };
    let registry = StubRegistry::start();
    registry.add(41, "", "{}", &[]);
    let mut sink = open_avro(&broker, "avro", &registry.url());
    let mut wanted = table(40, 51);
    publish(&mut *sink, &update(FULL, 3, 7), &[], &wanted).unwrap();
    let secret = "Basic bWU6Y2FuYXJ5";
    let asked =
        ["items", "popularity", "users"].map(|topic| format!("POST /subjects/avro-{topic}-value/versions {secret}"));
    assert_eq!(registry.requests(), asked, "each subject once, with the credentials of the table");
    let gone = wanted.keys().next_back().unwrap().clone();
    let moved = wanted.keys().next().unwrap().clone();
    sink.begin(&update(DELTA, 3, 8)).unwrap();
    sink.remove(&[&gone]).unwrap();
    sink.upsert(&[ItemRow { item_id: "new ß", embedding: &[0.1; DIM], log_frequency: -4.5 }]).unwrap();
    sink.set_popularity(&[(&moved, -0.25)]).unwrap();
    let user = UserQuery { user_id: "user 1", vector: &[-0.5; DIM], beta_tau: 0.125 };
    sink.set_queries(&[user]).unwrap();
    sink.commit().unwrap();
    assert_eq!(registry.requests().len(), 3, "a change asks nothing of the registry");
    wanted.remove(&gone);
    wanted.insert("new ß".to_owned(), (vec![0.1; DIM], -4.5));
    wanted.get_mut(&moved).unwrap().1 = -0.25;
    let mut held = Wanted::new();
    sink.read(&mut |row| drop(held.insert(row.item_id, (row.embedding, row.log_frequency)))).unwrap();
    assert!(held == wanted, "read back by this program");

    let items = consume(&broker, "avro-items");
    let (last, values): (Vec<&Seen>, Vec<Option<Vec<u8>>>) = items.iter().map(|seen| (seen, seen.1.clone())).unzip();
    assert!(last.iter().any(|(key, value, _)| *key == gone && value.is_none()), "a tombstone has no value");
    for value in values.iter().flatten() {
        assert_eq!(value[..5], [0, 0, 0, 0, 42], "the frame");
    }
    let Some(read) = decoded_in_python(&registry, &values) else { return };
    let mut rows: BTreeMap<&str, &Value> = BTreeMap::new();
    for ((key, _, headers), record) in items.iter().zip(&read) {
        match record {
            Value::Null => drop(rows.remove(key.as_str())),
            record => {
                assert_eq!((record["item_id"].as_str(), &record["model_id"]), (Some(key.as_str()), &json!("model-a")));
                assert_eq!(record["step"].to_string(), headers["step"]);
                rows.insert(key, record);
            }
        }
    }
    assert!(rows.keys().copied().eq(wanted.keys().map(String::as_str)));
    for (item_id, (embedding, log_frequency)) in &wanted {
        let numbers = rows[item_id.as_str()]["embedding"].as_array().unwrap().iter();
        assert!(numbers.map(|number| number.as_f64().unwrap() as f32).eq(embedding.iter().copied()), "{item_id}");
        assert!(
            *item_id == moved || rows[item_id.as_str()]["log_frequency"].as_f64() == Some(f64::from(*log_frequency))
        );
    }
    let newest = |topic: &str| vec![consume(&broker, topic).pop().unwrap().1];
    let popularity = decoded_in_python(&registry, &newest("avro-popularity")).unwrap();
    let of_item = json!({ "item_id": moved, "log_frequency": -0.25, "model_id": "model-a", "epoch": 3, "step": 8 });
    assert_eq!(popularity, [of_item]);
    let users = decoded_in_python(&registry, &newest("avro-users")).unwrap();
    let of_user = json!({
        "user_id": "user 1", "query": vec![-0.5; DIM], "beta_tau": 0.125, "model_id": "model-a", "epoch": 3, "step": 8,
    });
    assert_eq!(users, [of_user]);
}

#[test]
fn kafka_avro_names_the_sink_and_the_registry_that_is_away_or_refuses() {
    let Some(broker) = Broker::shared() else { return };
    let registry = StubRegistry::start();
    let mut sink = open_avro(&broker, "avro-trouble", &registry.url());
    for (mood, is_away, words) in [
        (Mood::Down, true, &[][..]),
        (Mood::Silent, true, &[]),
        (Mood::Says(500, r#"{"error_code":50001,"message":"store"}"#), true, &["HTTP 500", "store"]),
        (Mood::Says(401, "who are you?"), false, &["HTTP 401", "who are you?"]),
        (Mood::Says(409, r#"{"error_code":409,"message":"incompatible"}"#), false, &["HTTP 409", "incompatible"]),
    ] {
        registry.mood(mood.clone());
        let outcome = sink.begin(&update(FULL, 1, 1));
        assert_eq!(matches!(outcome, Err(SinkError::Away { .. })), is_away, "{mood:?}: {outcome:?}");
        let said = refused(outcome, &["kafka", &registry.url(), "avro-trouble-items-value"]);
        assert!(words.iter().all(|word| said.contains(word)) && !said.contains("canary"), "{mood:?}: {said}");
    }
    registry.mood(Mood::Well);
    let wanted = table(5, 52);
    publish(&mut *sink, &update(FULL, 1, 1), &[], &wanted).unwrap();
    // What is written by an encoding stays so; verifying needs no registry.
    refused(open(&broker, "avro-trouble", &[]).begin(&update(FULL, 2, 1)), &["kafka", "avro", "f32"]);
    registry.mood(Mood::Down);
    let mut held = Wanted::new();
    let mut reader = open_avro(&broker, "avro-trouble", &registry.url());
    reader.read(&mut |row| drop(held.insert(row.item_id, (row.embedding, row.log_frequency)))).unwrap();
    assert!(held == wanted);
}
