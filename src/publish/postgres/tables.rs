//! The tables: their names, what they hold, and how an update begins with them.

use std::future::Future;
use std::time::Duration;

use tokio_postgres::{Client, Error as ServerError, Row};

use super::connection::{Trouble, in_time};
use crate::publish::{SinkState, Update, UpdateKind, Version};

/// What statements speak of, and how long they may take.
pub(super) struct Names<'a> {
    pub(super) table: &'a str,
    pub(super) state: &'a str,
    pub(super) timeout: Duration,
    pub(super) replace: bool,
    /// The type of the embeddings.
    pub(super) vector_type: &'static str,
}

impl Names<'_> {
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = Result<T, ServerError>>) -> Result<T, Trouble> {
        in_time(self.timeout, work).await
    }
}

/// The table and that of the state in its schema, quoted; `None` where it is no name.
pub(super) fn table_names(table: &str) -> Option<(String, String)> {
    let quoted = |name: &str| (!name.is_empty()).then(|| format!("\"{}\"", name.replace('"', "\"\"")));
    match table.split_once('.') {
        None => Some((quoted(table)?, quoted("negstream_state")?)),
        Some((schema, table)) => {
            let schema = quoted(schema)?;
            Some((format!("{schema}.{}", quoted(table)?), format!("{schema}.{}", quoted("negstream_state")?)))
        }
    }
}

/// A version in the types of the table.
pub(super) fn stored(version: Version) -> Option<(i64, i64)> {
    Some((i64::try_from(version.epoch).ok()?, i64::try_from(version.step).ok()?))
}

pub(super) fn loaded(epoch: i64, step: i64) -> Version {
    Version { epoch: epoch.unsigned_abs(), step: step.unsigned_abs() }
}

/// The table's state: model, dimension, version.
pub(super) async fn state_of(client: &Client, names: &Names<'_>, lock: &str) -> Result<Option<SinkState>, Trouble> {
    let select = format!("SELECT model_id, dim, epoch, step FROM {} WHERE items = $1 {lock}", names.state);
    let row = names.in_time(client.query_opt(&select, &[&names.table])).await?;
    row.map(|row| {
        let dim = usize::try_from(row.try_get::<_, i32>(1)?).unwrap_or_default();
        Ok(SinkState { model_id: row.try_get(0)?, dim, version: loaded(row.try_get(2)?, row.try_get(3)?) })
    })
    .transpose()
}

/// What was made, whoever made it at the same time.
pub(super) fn made_by_anybody(made: Result<(), Trouble>) -> Result<(), Trouble> {
    match made {
        Err(Trouble::Server(error))
            if error.code().is_some_and(|code| ["23505", "42710", "42P07"].contains(&code.code())) =>
        {
            Ok(())
        }
        made => made,
    }
}

/// How many numbers the embeddings of the table have (-1: any), and their type; `None` where it has none.
async fn column_of(client: &Client, names: &Names<'_>) -> Result<Option<(i32, String)>, Trouble> {
    let select = "SELECT atttypmod, typname::text FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
                  WHERE attrelid = to_regclass($1) AND attname = 'embedding'";
    let column: Option<Row> = names.in_time(client.query_opt(select, &[&names.table])).await?;
    Ok(column.map(|column| Ok::<_, ServerError>((column.try_get(0)?, column.try_get(1)?))).transpose()?)
}

/// Begins the transaction: tables as they should be, and nothing in them that is newer, or another model's.
pub(super) async fn begin(
    client: &Client,
    names: &Names<'_>,
    update: &Update<'_>,
    committed: Option<Version>,
) -> Result<(), Trouble> {
    let Names { table, state, vector_type, .. } = names;
    let dim = update.dim;
    names.in_time(client.batch_execute("ROLLBACK")).await?;
    // What all tables share is made outside of the transaction: another worker that makes it too is no reason to fail.
    let has_vector = "SELECT to_regtype('vector') IS NOT NULL, to_regclass($1) IS NOT NULL";
    let there: Row = names.in_time(client.query_one(has_vector, &[state])).await?;
    if !there.try_get::<_, bool>(0)? {
        made_by_anybody(names.in_time(client.batch_execute("CREATE EXTENSION IF NOT EXISTS vector")).await)?;
    }
    if !there.try_get::<_, bool>(1)? {
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {state} (items text PRIMARY KEY, model_id text NOT NULL, dim integer NOT NULL,
             epoch bigint NOT NULL, step bigint NOT NULL)"
        );
        made_by_anybody(names.in_time(client.batch_execute(&create)).await)?;
    }
    names.in_time(client.batch_execute("BEGIN")).await?;
    if names.replace && update.kind == UpdateKind::Full {
        let held = state_of(client, names, "FOR UPDATE").await?;
        let is_other_type = column_of(client, names).await?.is_some_and(|(_, found)| found != *vector_type);
        if is_other_type || held.is_none_or(|held| held.model_id != update.model_id || held.dim != dim) {
            names.in_time(client.batch_execute(&format!("DROP TABLE IF EXISTS {table}"))).await?;
        }
    }
    let is_there: Row = names.in_time(client.query_one("SELECT to_regclass($1) IS NOT NULL", &[table])).await?;
    let is_there: bool = is_there.try_get(0)?;
    if !is_there {
        // Room in each page: a row whose vector stays is written beside itself, without a word to the index.
        let create = format!(
            "CREATE TABLE {table} (item_id text PRIMARY KEY, embedding {vector_type}({dim}) NOT NULL, log_frequency real NOT NULL,
             epoch bigint NOT NULL, step bigint NOT NULL) WITH (fillfactor = 70)"
        );
        names.in_time(client.batch_execute(&create)).await?;
        // Of a table that was dropped since.
        names.in_time(client.execute(&format!("DELETE FROM {state} WHERE items = $1"), &[table])).await?;
    }
    let held = state_of(client, names, "FOR UPDATE").await?;
    match column_of(client, names).await? {
        Some((_, found)) if found != *vector_type => {
            return Err(Trouble::Held(format!(
                "its embeddings are of the type {found}, not {vector_type} (precision); {OTHERWISE}"
            )));
        }
        Some((found, _)) if found == -1 || usize::try_from(found).is_ok_and(|found| found == dim) => {}
        Some((found, _)) => {
            return Err(Trouble::Held(format!("it holds vectors of dimension {found}, not {dim}; {OTHERWISE}")));
        }
        None => return Err(Trouble::Held(format!("it has no column 'embedding'; {OTHERWISE}"))),
    }
    match held {
        None => {
            let any = format!("SELECT EXISTS (SELECT FROM {table})");
            if names.in_time(client.query_one(&any, &[])).await?.try_get(0)? {
                return Err(Trouble::Held(format!("it holds rows that negstream has not written; {OTHERWISE}")));
            }
        }
        Some(held) => {
            let model_id = update.model_id;
            if held.model_id != model_id {
                let other = held.model_id;
                return Err(Trouble::Held(format!(
                    "it holds vectors of another model, {other}, not of {model_id}; {OTHERWISE}"
                )));
            }
            if held.version >= update.version {
                let Version { epoch, step } = held.version;
                return Err(Trouble::Held(format!("it holds a version that is not older: epoch {epoch}, step {step}")));
            }
            if update.kind == UpdateKind::Delta && committed != Some(held.version) {
                return Err(Trouble::Lost);
            }
            return prepare(client, names).await;
        }
    }
    if update.kind == UpdateKind::Delta { Err(Trouble::Lost) } else { prepare(client, names).await }
}

/// Whether the table and that of the state are there.
pub(super) const THERE: &str = "SELECT to_regclass($1) IS NOT NULL AND to_regclass($2) IS NOT NULL";
/// What can be done about a table of somebody else.
pub(super) const OTHERWISE: &str = "set replace = true, or choose another table (name)";

pub(super) async fn prepare(client: &Client, names: &Names<'_>) -> Result<(), Trouble> {
    let incoming = format!(
        "CREATE TEMPORARY TABLE IF NOT EXISTS negstream_incoming
         (item_id text, embedding {}, log_frequency real) ON COMMIT DELETE ROWS",
        names.vector_type
    );
    names.in_time(client.batch_execute(&incoming)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tables_are_quoted_and_the_state_lies_in_their_schema() {
        let of = |table| table_names(table).unwrap();
        assert_eq!(of("items"), ("\"items\"".to_owned(), "\"negstream_state\"".to_owned()));
        assert_eq!(of("a.b\"; DROP"), ("\"a\".\"b\"\"; DROP\"".to_owned(), "\"a\".\"negstream_state\"".to_owned()));
        assert!(table_names("").is_none() && table_names("a.").is_none());
    }
}
