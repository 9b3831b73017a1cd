//! What is taken, and what is refused, with its row.

use std::fs::File;
use std::sync::Arc;

use arrow_array::types::{Float16Type, Float32Type, Float64Type};
use arrow_array::{ArrayRef, FixedSizeListArray, Int64Array, ListArray, RecordBatch, StringArray, UInt32Array};
use arrow_schema::Schema;
use parquet::arrow::ArrowWriter;

use super::*;

const COLUMNS: VectorColumns<'_> = VectorColumns { id: "item_id", vector: None, count: None, last_event: None };

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)));
    let batch = batch.unwrap();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, Arc::<Schema>::clone(&batch.schema()), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// A column of vectors of two numbers; `None`: null.
fn pairs(rows: &[Option<[f32; 2]>]) -> ArrayRef {
    let rows = rows.iter().map(|row| row.map(|row| row.map(Some)));
    Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(rows, 2))
}

fn names(names: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(names.to_vec()))
}

fn read_with(columns: VectorColumns<'_>, table: Vec<(&str, ArrayRef)>) -> Result<ForeignVectors, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.parquet");
    write(&path, table);
    ForeignVectors::read(&path, columns, None).map_err(|error| error.problem)
}

fn refused(table: Vec<(&str, ArrayRef)>) -> String {
    read_with(COLUMNS, table).expect_err("it is at fault")
}

#[test]
fn a_table_is_taken_by_the_names_that_checkpoints_and_exports_have() {
    let table = || {
        vec![
            ("item_id", names(&["a", "b"])),
            ("embedding", pairs(&[Some([1.0, 2.0]), Some([3.0, -4.0])])),
            ("count", Arc::new(Int64Array::from(vec![7, 0])) as ArrayRef),
            ("last_event", Arc::new(Int64Array::from(vec![1_000, -1])) as ArrayRef),
            ("title", names(&["x", "y"])),
        ]
    };
    let vectors = read_with(COLUMNS, table()).unwrap();
    assert_eq!((vectors.dim, vectors.vector(1), vectors.ids.name(0)), (2, &[3.0, -4.0][..], "a"));
    assert_eq!((vectors.counts, vectors.last_events), (Some(vec![7, 0]), Some(vec![1_000, -1])));
    assert_eq!(vectors.columns, ["item_id", "embedding", "count", "last_event"]);
    // Lists of any length and precision, whole numbers as names, columns of other names.
    let doubles: ListArray = ListArray::from_iter_primitive::<Float64Type, _, _>([Some([Some(0.5), Some(0.25)])]);
    let halves: ListArray = ListArray::from_iter_primitive::<Float16Type, _, _>([Some(
        [0.5, 0.25].map(|number| Some(<Float16Type as arrow_array::ArrowPrimitiveType>::Native::from_f32(number))),
    )]);
    for list in [doubles, halves] {
        let mapped = VectorColumns { id: "sku", vector: Some("factors"), count: Some("views"), last_event: None };
        let table = vec![
            ("sku", Arc::new(UInt32Array::from(vec![17])) as ArrayRef),
            ("factors", Arc::new(list) as ArrayRef),
            ("views", Arc::new(UInt32Array::from(vec![3])) as ArrayRef),
        ];
        let vectors = read_with(mapped, table).unwrap();
        assert_eq!((vectors.ids.name(0), vectors.vector(0)), ("17", &[0.5, 0.25][..]));
        assert_eq!((vectors.counts, vectors.last_events), (Some(vec![3]), None));
    }
}

#[test]
fn what_is_wrong_with_a_table_is_told_with_its_row() {
    let good = [Some([1.0, 2.0]), Some([3.0, 4.0])];
    let of = |ids: &[&str], rows: &[Option<[f32; 2]>]| refused(vec![("item_id", names(ids)), ("vector", pairs(rows))]);
    assert!(of(&["a", "a"], &good).contains("row 2, item 'a': the item is there twice: row 1"));
    assert!(of(&["a", ""], &good).contains("row 2: 'item_id' names no item"));
    assert!(
        of(&["a", "b"], &[good[0], Some([1.0, f32::NAN])]).contains("row 2, item 'b': number 2 of the vector is NaN")
    );
    assert!(of(&["a", "b"], &[good[0], None]).contains("row 2, item 'b': the vector, or one of its numbers, is null"));
    let uneven: ListArray =
        ListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(1.0)]), Some(vec![Some(1.0), Some(2.0)])]);
    let said = refused(vec![("item_id", names(&["a", "b"])), ("vector", Arc::new(uneven))]);
    assert!(said.contains("row 2, item 'b': the vector has 2 numbers; that of row 1 has 1"), "{said}");
    let counted = vec![
        ("item_id", names(&["a", "b"])),
        ("vector", pairs(&good)),
        ("count", Arc::new(Int64Array::from(vec![1, -1])) as ArrayRef),
    ];
    assert!(refused(counted).contains("row 2, item 'b': 'count' is no number of events"));
    assert!(refused(vec![("sku", names(&["a"]))]).contains("'item_id' is missing; there are sku (--id)"));
    let said = refused(vec![("item_id", names(&["a"])), ("vector", names(&["1 2 3"]))]);
    assert!(said.contains("'vector' must be lists of numbers, but is text (--vector)"), "{said}");
    assert!(of(&[], &[]).contains("no item"));
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("vectors.parquet");
    std::fs::write(&text, "item_id,vector").unwrap();
    let error = ForeignVectors::read(&text, COLUMNS, None).unwrap_err().to_string();
    assert!(error.contains("vectors.parquet: cannot be read as Parquet"), "{error}");
    let error = ForeignVectors::read(&text, COLUMNS, Some(&text)).unwrap_err().to_string();
    assert!(error.contains(".npy"), "{error}");
}

/// An array of NumPy with this head and body.
fn array(version: u8, head: &str, body: &[u8]) -> Vec<u8> {
    let length = match version {
        1 => (head.len() as u16).to_le_bytes().to_vec(),
        _ => (head.len() as u32).to_le_bytes().to_vec(),
    };
    [b"\x93NUMPY", &[version, 0][..], &length, head.as_bytes(), body].concat()
}

fn read_array(bytes: &[u8], names: &str) -> Result<ForeignVectors, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("items.npy");
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(folder.path().join("items.json"), names).unwrap();
    ForeignVectors::read(&path, COLUMNS, None).map_err(|error| error.problem)
}

#[test]
fn an_array_is_taken_with_the_names_beside_it() {
    let singles: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|number| number.to_le_bytes()).collect();
    let doubles: Vec<u8> = [1.0_f64, 2.0, 3.0, 4.0].iter().flat_map(|number| number.to_le_bytes()).collect();
    for (version, kind, body) in [(1, "<f4", &singles), (2, "<f4", &singles), (3, "<f8", &doubles)] {
        let head = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': (2, 2), }}   \n");
        let vectors = read_array(&array(version, &head, body), r#"["a", 7]"#).unwrap();
        assert_eq!((vectors.vector(1), vectors.ids.name(1)), (&[3.0, 4.0][..], "7"));
    }
    let head = |kind: &str, order: &str, shape: &str| {
        array(1, &format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}\n"), &singles)
    };
    for (bytes, names, said) in [
        (head("<f4", "False", "(2, 2)"), r#"["a"]"#, "1 names for 2 rows"),
        (head("<f4", "False", "(2, 2)"), r#"["a", null]"#, "name 2 must be text or a whole number, but is null"),
        (head("<f4", "False", "(2, 2)"), r#"{"a": 1}"#, "must be a list of the items' names in JSON"),
        (head("<f4", "False", "(2, 3)"), r#"["a", "b"]"#, "is not as long as 2 rows of 3 numbers are"),
        (head("<f4", "False", "(4,)"), r#"["a", "b"]"#, "must be of shape (items, numbers), but is of (4)"),
        (head("<f4", "True", "(2, 2)"), r#"["a", "b"]"#, "ascontiguousarray"),
        (head("<i8", "False", "(2, 1)"), r#"["a", "b"]"#, "numbers of type <i8"),
        (b"PAR1".to_vec(), "[]", "is no array of NumPy"),
        (array(1, "{}", b"")[..9].to_vec(), "[]", "is no array of NumPy"),
    ] {
        let error = read_array(&bytes, names).expect_err(said);
        assert!(error.contains(said), "{error}, not {said}");
    }
}
