//! Vectors from an array of NumPy, and the items' names from a list of JSON.

use std::path::Path;

use arrow_array::types::{ArrowPrimitiveType, Float16Type};
use compact_str::CompactString;
use serde_json::Value;

use super::{ForeignVectors, ImportError, problem};

/// What every such file begins with.
const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads the array at `path`, whose rows are those of the list at `names`.
pub(super) fn read(path: &Path, names: &Path) -> Result<ForeignVectors, ImportError> {
    let bytes = |path: &Path| std::fs::read(path).map_err(|error| problem(path, &format!("cannot be read: {error}")));
    let array = bytes(path)?;
    let head = ArrayHead::parse(&array).map_err(|words| problem(path, &words))?;
    let list: Vec<Value> = serde_json::from_slice(&bytes(names)?)
        .map_err(|error| problem(names, &format!("must be a list of the items' names in JSON: {error}")))?;
    if list.len() != head.rows {
        let words = format!("{} names for {} rows of {}", list.len(), head.rows, path.display());
        return Err(problem(names, &words));
    }
    let mut vectors = ForeignVectors::default();
    let row_bytes = head.columns * head.kind.size();
    for (row, (name, numbers)) in list.iter().zip(head.body.chunks_exact(row_bytes)).enumerate() {
        let name: CompactString = match name {
            Value::String(text) if !text.is_empty() => text.as_str().into(),
            Value::Number(number) if !number.is_f64() => number.to_string().into(),
            other => {
                let words = format!("name {} must be text or a whole number, but is {other}", row + 1);
                return Err(problem(names, &words));
            }
        };
        vectors.push(path, name, head.kind.numbers(numbers))?;
    }
    Ok(vectors)
}

/// The type of an array's numbers.
#[derive(Debug, Clone, Copy)]
enum NumberKind {
    F16,
    F32,
    F64,
}

impl NumberKind {
    fn size(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    fn numbers(self, bytes: &[u8]) -> impl Iterator<Item = f32> {
        bytes.chunks_exact(self.size()).map(move |number| match self {
            Self::F16 => {
                let bits = u16::from_le_bytes(number.try_into().expect("two bytes"));
                <Float16Type as ArrowPrimitiveType>::Native::from_bits(bits).to_f32()
            }
            Self::F32 => f32::from_le_bytes(number.try_into().expect("four bytes")),
            Self::F64 => f64::from_le_bytes(number.try_into().expect("eight bytes")) as f32,
        })
    }
}

/// The head of an array, and the bytes of its numbers.
struct ArrayHead<'a> {
    kind: NumberKind,
    rows: usize,
    columns: usize,
    body: &'a [u8],
}

impl<'a> ArrayHead<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let none = || "is no array of NumPy".to_owned();
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(none)?;
        let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(none)?;
        // The length of the head has two bytes in the first version of the format, and four since.
        let (length, rest) = match version[0] {
            1 => rest.split_first_chunk::<2>().map(|(length, rest)| (u16::from_le_bytes(*length) as usize, rest)),
            _ => rest.split_first_chunk::<4>().map(|(length, rest)| (u32::from_le_bytes(*length) as usize, rest)),
        }
        .ok_or_else(none)?;
        let (head, body) = rest.split_at_checked(length).ok_or_else(none)?;
        let head = str::from_utf8(head).map_err(|_| none())?;
        let field = |name: &str| head.split_once(&format!("'{name}':")).map(|(_, rest)| rest.trim_start());
        let descr = field("descr").and_then(|rest| rest.split('\'').nth(1)).ok_or_else(none)?;
        let kind = match descr {
            "<f2" => NumberKind::F16,
            "<f4" => NumberKind::F32,
            "<f8" => NumberKind::F64,
            other => return Err(format!("holds numbers of type {other}: make them float32 (array.astype('<f4'))")),
        };
        if field("fortran_order").is_none_or(|rest| !rest.starts_with("False")) {
            return Err("its rows do not lie one behind the other: numpy.ascontiguousarray(array)".to_owned());
        }
        let shape = field("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')')).ok_or_else(none)?.0;
        let shape: Option<Vec<usize>> =
            shape.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect();
        let Some([rows, columns]) = shape.as_deref() else {
            return Err(format!(
                "must be of shape (items, numbers), but is of ({})",
                shape.map_or_else(String::new, |shape| {
                    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                })
            ));
        };
        let (rows, columns) = (*rows, *columns);
        let expected = rows.checked_mul(columns).and_then(|numbers| numbers.checked_mul(kind.size()));
        if columns == 0 || expected != Some(body.len()) {
            return Err(format!("is not as long as {rows} rows of {columns} numbers are"));
        }
        Ok(Self { kind, rows, columns, body })
    }
}
