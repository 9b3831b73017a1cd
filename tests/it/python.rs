//! What others read, read by others: `items.parquet` in pyarrow and numpy; and what those need that are not here.

use std::fs::File;
use std::path::PathBuf;

use parquet::basic::{ConvertedType, Encoding};
use parquet::file::reader::{FileReader as _, SerializedFileReader};

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

/// Readers in Java take dictionaries of lists amiss, and for Athena and Spark there are no unsigned numbers.
#[test]
fn items_are_stored_as_every_reader_takes_them() {
    let place = Place::new();
    write_log(&place.path("log.parquet"), &support::events(3_000, 8));
    place.replay("log.parquet", &["model.dim=8"]);
    let file = File::open(place.newest("checkpoints").join("items.parquet")).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let group = reader.metadata().row_group(0);
    for column in group.columns() {
        let is_plain = column.encodings().all(|encoding| matches!(encoding, Encoding::PLAIN | Encoding::RLE));
        assert!(is_plain, "{}: {:?}", column.column_path(), column.encodings().collect::<Vec<_>>());
        let unsigned = [ConvertedType::UINT_8, ConvertedType::UINT_16, ConvertedType::UINT_32, ConvertedType::UINT_64];
        assert!(!unsigned.contains(&column.column_descr().converted_type()), "{}", column.column_path());
    }
}
