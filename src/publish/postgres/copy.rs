//! Rows by COPY in binary, and vectors as pgvector sends and receives them.

use std::pin::pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::SinkExt as _;
use tokio_postgres::Client;
use tokio_postgres::types::{FromSql, Type};

use super::connection::Trouble;
use super::tables::Names;
use crate::publish::StoredPrecision;
use crate::publish::precision::{half_bits, half_number};

/// How a COPY in binary begins: its signature, and no flags.
pub(super) const COPY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Brings rows of a COPY into the temporary table, does `statement` with them, and empties it.
pub(super) async fn merge(
    client: &Client,
    names: &Names<'_>,
    rows: Bytes,
    columns: &str,
    statement: &str,
    version: (i64, i64),
) -> Result<(), Trouble> {
    let copy = format!("COPY negstream_incoming ({columns}) FROM STDIN (FORMAT binary)");
    names
        .in_time(async {
            let mut incoming = pin!(client.copy_in::<_, Bytes>(&copy).await?);
            incoming.send(rows).await?;
            incoming.as_mut().finish().await
        })
        .await?;
    names.in_time(client.execute(statement, &[&version.0, &version.1])).await?;
    names.in_time(client.batch_execute("DELETE FROM negstream_incoming")).await
}

/// A row of a COPY in binary: its fields, each with its length.
pub(super) fn copy_row(copy: &mut BytesMut, fields: &[&[u8]]) {
    copy.put_i16(fields.len() as i16);
    for field in fields {
        copy.put_i32(field.len() as i32);
        copy.put_slice(field);
    }
}

/// A vector as pgvector sends and receives it.
pub(super) fn vector(embedding: &[f32], precision: StoredPrecision) -> Vec<u8> {
    let head = (embedding.len() as u16).to_be_bytes().into_iter().chain([0, 0]);
    match precision {
        StoredPrecision::F32 => head.chain(embedding.iter().flat_map(|number| number.to_be_bytes())).collect(),
        StoredPrecision::F16 => {
            head.chain(embedding.iter().flat_map(|number| half_bits(*number).to_be_bytes())).collect()
        }
    }
}

/// What is read of a column of vectors.
pub(super) struct Vector(pub(super) Vec<f32>);

impl<'a> FromSql<'a> for Vector {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let numbers = raw.get(4..).ok_or("a vector without its head")?;
        Ok(Self(match kind.name() {
            "halfvec" => numbers.as_chunks::<2>().0.iter().map(|bits| half_number(u16::from_be_bytes(*bits))).collect(),
            _ => numbers.as_chunks::<4>().0.iter().map(|number| f32::from_be_bytes(*number)).collect(),
        }))
    }

    fn accepts(kind: &Type) -> bool {
        ["vector", "halfvec"].contains(&kind.name())
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::types::Kind;

    use super::*;

    #[test]
    fn vectors_come_back_as_they_are_sent() {
        let embedding = [1.5, -0.0, f32::MIN_POSITIVE];
        let sent = vector(&embedding, StoredPrecision::F32);
        assert_eq!(sent[..4], [0, 3, 0, 0]);
        let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let Vector(read) = Vector::from_sql(&Type::BYTEA, &sent).unwrap();
        assert_eq!(bits(&read), bits(&embedding));
        let half = Type::new("halfvec".to_owned(), 70_000, Kind::Simple, "public".to_owned());
        let sent = vector(&embedding, StoredPrecision::F16);
        assert_eq!((sent.len(), &sent[..6]), (10, &[0, 3, 0, 0, 0x3e, 0][..]));
        let Vector(read) = Vector::from_sql(&half, &sent).unwrap();
        assert_eq!(bits(&read), bits(&[1.5, -0.0, 0.0]));
    }
}
