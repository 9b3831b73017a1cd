//! What others read, read by others: `items.parquet` in pyarrow and numpy.

use std::path::PathBuf;

use crate::support::{self, Place, python, run, write_log};

fn opens(similarity: &str, dim: usize) {
    let Some(mut python) = python(&["pyarrow", "numpy"]) else { return };
    let place = Place::new();
    let events = support::events(20_000, 8);
    write_log(&place.path("log.parquet"), &events);
    let settings = [format!("model.similarity={similarity}"), format!("model.dim={dim}")];
    let report = place.replay("log.parquet", &settings.each_ref().map(String::as_str));

    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/python/items.py");
    python.arg(script).arg(place.newest("checkpoints").join("items.parquet")).arg(dim.to_string()).arg(similarity);
    for event in &events[19_990..] {
        let said = run(&mut place.negstream(&["neighbors", "checkpoints", &event.item, "--json"])).ended(0);
        let output = place.path(&format!("{}.json", event.item));
        std::fs::write(&output, said.out).unwrap();
        python.arg(output);
    }
    let said = run(&mut python).ended(0);
    assert_eq!(said.out.trim(), format!("{} items", report["items"]));
}

#[test]
fn items_with_cosine() {
    opens("cosine", 64);
}

#[test]
fn items_with_dot_and_an_odd_number_of_dimensions() {
    opens("dot", 37);
}
