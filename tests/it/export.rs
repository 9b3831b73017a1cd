//! `negstream export`: a plain inner product over what is written ranks as the product does, by likeness and popularity.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support::{self, Place, python, read, run, write_log};

/// The rows of an array of NumPy.
fn npy(path: &Path) -> Vec<Vec<f32>> {
    let bytes = read(path);
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let head = String::from_utf8(bytes[10..10 + length].to_vec()).unwrap();
    let (_, shape) = head.split_once("'shape': (").unwrap();
    let shape: Vec<usize> =
        shape.split_once(')').unwrap().0.split(", ").map(|number| number.parse().unwrap()).collect();
    let numbers: Vec<f32> =
        bytes[10 + length..].as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number)).collect();
    assert_eq!(numbers.len(), shape[0] * shape[1]);
    numbers.chunks(shape[1]).map(<[f32]>::to_vec).collect()
}

fn names(path: &Path) -> Vec<String> {
    serde_json::from_slice(&read(path)).unwrap()
}

fn dot(left: &[f32], right: &[f32]) -> f64 {
    left.iter().zip(right).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

/// A checkpoint that was trained with `settings`.
fn trained(settings: &[&str]) -> Place {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &support::events(8_000, 61));
    place.replay("log.parquet", &[&["model.dim=16"], settings].concat());
    place
}

#[test]
fn export_ranks_by_a_plain_inner_product_as_recommend_does_without_what_is_the_users_own() {
    for settings in [
        &["cooccurrence.neighbors=0"][..],
        &["evaluate.repeat=true"],
        &["model.similarity=dot", "model.gate=false"],
        &["objective=nce", "evaluate.repeat=true"],
    ] {
        let place = trained(settings);
        let said =
            run(&mut place.negstream(&["export", "checkpoints", "--to", "npy", "out", "--json"])).ended(0).json();
        let out = place.path("out");
        let (items, queries) = (npy(&out.join("items.npy")), npy(&out.join("queries.npy")));
        let (item_names, users) = (names(&out.join("items.json")), names(&out.join("users.json")));
        assert_eq!((items.len(), queries.len()), (item_names.len(), users.len()));
        assert_eq!((said["dim"].as_u64(), said["items"].as_u64()), (Some(17), Some(items.len() as u64)));
        let place_of: BTreeMap<&str, usize> =
            item_names.iter().enumerate().map(|(row, name)| (name.as_str(), row)).collect();
        for user in users.iter().step_by(users.len() / 20) {
            let query = &queries[users.iter().position(|name| name == user).unwrap()];
            let answer =
                run(&mut place.negstream(&["recommend", "checkpoints", "--user", user, "-k", "100000", "--json"]));
            let answer = answer.ended(0).json();
            let list = answer["lists"][0]["recommendations"].as_array().unwrap();
            let number = |row: &Value, key: &str| row[key].as_f64().unwrap();
            // The product's ranking by likeness and popularity, and the index's.
            let mut expected: Vec<(f64, &str)> = list
                .iter()
                .map(|row| (number(row, "similarity") + number(row, "popularity"), row["item_id"].as_str().unwrap()))
                .collect();
            for (score, item) in &expected {
                let found = dot(&items[place_of[item]], query);
                assert!((found - score).abs() < 1e-4 * score.abs().max(1.0), "{settings:?}: {found}, not {score}");
            }
            let mut found = expected.clone();
            found.iter_mut().for_each(|(score, item)| *score = dot(&items[place_of[item]], query));
            let gap = |ranked: &[(f64, &str)]| ranked.windows(2).all(|pair| pair[0].0 - pair[1].0 > 1e-5);
            for ranked in [&mut expected, &mut found] {
                ranked.sort_by(|left, right| right.0.total_cmp(&left.0));
            }
            let ranked =
                |ranked: &[(f64, &str)]| ranked.iter().take(20).map(|(_, item)| (*item).to_owned()).collect::<Vec<_>>();
            assert!(ranked(&found) == ranked(&expected) || !gap(&expected[..21.min(expected.len())]), "{settings:?}");
            if settings.contains(&"cooccurrence.neighbors=0") {
                // Where nothing is the user's own, it is the list itself.
                assert_eq!(list[0]["item_id"].as_str(), Some(found[0].1));
            }
        }
    }
}

#[test]
fn export_writes_the_same_vectors_in_every_format_and_faiss_reads_its_own() {
    let place = trained(&[]);
    for format in ["npy", "faiss", "usearch", "parquet"] {
        let said = run(&mut place.negstream(&["export", "checkpoints", "--to", format, format])).ended(0).out;
        assert!(said.contains(" queries of 17 numbers in "), "{said}");
    }
    let (items, queries) = (npy(&place.path("npy/items.npy")), npy(&place.path("npy/queries.npy")));
    let fbin = read(&place.path("usearch/items.fbin"));
    assert_eq!(fbin[..8], [(items.len() as u32).to_le_bytes(), 17_u32.to_le_bytes()].concat()[..]);
    let bytes: Vec<u8> = items.iter().flatten().flat_map(|number| number.to_le_bytes()).collect();
    assert!(fbin[8..] == bytes && read(&place.path("faiss/queries.npy")) == read(&place.path("npy/queries.npy")));
    let Some(mut python) = python(&["faiss", "numpy", "pyarrow"]) else { return };
    let (_, snippet) =
        include_str!("../../docs/serving.md").split_once("<!-- snippet: faiss -->\n```python\n").expect("a snippet");
    let (snippet, _) = snippet.split_once("\n```").expect("its end");
    let program = "
import faiss, json, numpy as np, pyarrow.parquet as pq
items, queries = np.load('npy/items.npy'), np.load('npy/queries.npy')
index = faiss.read_index('faiss/items.faiss')
assert type(index) is faiss.IndexFlatIP and index.ntotal == len(items) and index.d == 17
assert (index.reconstruct_n(0, index.ntotal) == items).all()
scores, found = index.search(np.load('faiss/queries.npy')[:50], 20)
assert (np.diff(scores) <= 0).all() and np.allclose(scores, np.sort(queries[:50] @ items.T)[:, :-21:-1], rtol=1e-4, atol=1e-3)
for side, column, names in [('items', 'item_id', 'items'), ('queries', 'user_id', 'users')]:
    table = pq.read_table(f'parquet/{side}.parquet')
    vectors = table['vector'].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    assert (vectors == np.load(f'npy/{side}.npy')).all()
    assert table[column].to_pylist() == json.load(open(f'npy/{names}.json'))
vectors = items
";
    let asked = "
found = candidates(users[3], 20)
scores = vectors @ queries[3]
assert np.allclose(list(found.values()), np.sort(scores)[:-21:-1], rtol=1e-4, atol=1e-3)
assert all(np.isclose(scores[items.index(item)], score, rtol=1e-4, atol=1e-3) for item, score in found.items())
print(len(items), len(queries))";
    let program = format!("{program}{}{asked}", snippet.replace("out/", "faiss/"));
    let output = python.args(["-c", &program]).current_dir(place.path("")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("{} {}", items.len(), queries.len()));
}

#[test]
fn export_of_some_users_and_what_it_cannot_write() {
    let place = trained(&[]);
    let export = |rest: &[&str]| run(&mut place.negstream(&[&["export", "checkpoints", "--to", "npy"], rest].concat()));
    export(&["some"]).ended(0);
    let user = names(&place.path("some/users.json")).pop().unwrap();
    export(&["one", "--user", &user]).ended(0);
    assert_eq!(names(&place.path("one/users.json")), [user]);
    assert_eq!(npy(&place.path("one/queries.npy")).last(), npy(&place.path("some/queries.npy")).last());
    export(&["one", "--user", "nobody"]).ended(2).names(&["no user 'nobody'"]);
    std::fs::write(place.path("file"), "").unwrap();
    export(&["file"]).ended(2).names(&["file", "folder"]);
}
