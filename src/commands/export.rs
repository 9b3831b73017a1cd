//! `export`: item vectors with popularity as one more dimension, and query vectors of users, for indices of other programs.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use super::loaded::LoadedCheckpoint;
use super::recommend::{time, user};
use super::{print, write_whole_by};
use crate::cli::{ExportArgs, ExportFormat, Layers};
use crate::exit::UsageError;
use crate::export::{MatrixFormat, write_matrix, write_names, write_table};
use crate::recommend::{Recommender, Visitor};
use crate::trainer::state::State;

/// The file that is written last: an export is whole where it is there.
const SUMMARY: &str = "export.json";

pub(super) fn export(layers: &Layers, options: ExportArgs) -> anyhow::Result<()> {
    let at = options.at.as_deref().map(time).transpose()?;
    let out = &options.out;
    let cannot_make = |error| UsageError(format!("{}: the folder cannot be made: {error}", out.display()));
    std::fs::create_dir_all(out).map_err(cannot_make)?;
    let LoadedCheckpoint { checkpoint, state, .. } = LoadedCheckpoint::read(layers, &options.checkpoint)?;
    let recommender = Recommender::new(&state);
    let at = at.or_else(|| state.items.last_event.iter().copied().max()).unwrap_or_default();
    let visitors = match options.users.as_slice() {
        [] => (0..state.users.ids.len() as u32).map(Visitor::User).filter(|user| recommender.knows(user)).collect(),
        names => {
            let rows = names.iter().map(|name| user(&state, &recommender, name, &options.checkpoint));
            rows.collect::<Result<Vec<_>, _>>()?
        }
    };
    let summary = out.join(SUMMARY);
    match std::fs::remove_file(&summary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", summary.display()));
        }
        _ => {}
    }
    let vectors = ExportedVectors { state: &state, recommender: &recommender, visitors: &visitors, at };
    let (item_names, user_names) = (vectors.item_names(), vectors.user_names());
    let mut files = Vec::new();
    for side in [
        ExportSide { stem: "items", names_file: "items.json", column: "item_id", names: &item_names, is_items: true },
        ExportSide {
            stem: "queries",
            names_file: "users.json",
            column: "user_id",
            names: &user_names,
            is_items: false,
        },
    ] {
        files.extend(side.write(options.to, out, &vectors)?);
    }
    let value = json!({
        "model_id": checkpoint.manifest().model_id(),
        "step": checkpoint.manifest().step,
        "dim": vectors.dim(),
        "items": item_names.len(),
        "users": user_names.len(),
        "at": at,
        "beta": state.model.beta(),
        "temperature": 1.0 / state.model.inverse_temperature(),
        "files": files,
    });
    write_whole_by(&summary, |file| Ok(serde_json::to_writer_pretty(file, &value)?))?;
    if options.json {
        print(&format!("{value}\n"));
    } else {
        let (n_items, n_users, dim) = (item_names.len(), user_names.len(), vectors.dim());
        print(&format!(
            "{n_items} items and {n_users} queries of {dim} numbers in {}: {}\n",
            out.display(),
            files.join(", ")
        ));
    }
    Ok(())
}

/// The vectors of a checkpoint whose inner products are scores.
struct ExportedVectors<'a> {
    state: &'a State,
    recommender: &'a Recommender<'a>,
    visitors: &'a [Visitor],
    at: i64,
}

impl ExportedVectors<'_> {
    /// Numbers in a vector: those of the model's, and popularity.
    fn dim(&self) -> usize {
        self.state.model.dim() + 1
    }

    fn item_names(&self) -> Vec<&str> {
        (0..self.state.items.ids.len() as u32).map(|row| self.state.items.ids.name(row)).collect()
    }

    fn user_names(&self) -> Vec<&str> {
        let name = |visitor: &Visitor| match visitor {
            Visitor::User(row) => self.state.users.ids.name(*row),
            Visitor::Session(_) => "",
        };
        self.visitors.iter().map(name).collect()
    }

    /// Of each item, its vector as it is served, and τ·(β·log q̂ + b).
    fn items(&self, rows: Range<usize>) -> Vec<f32> {
        let (model, dim) = (&self.state.model, self.dim());
        let mut vectors = vec![0.0; rows.len() * dim];
        for (row, vector) in rows.zip(vectors.chunks_exact_mut(dim)) {
            model.served(row, &mut vector[..dim - 1]);
            vector[dim - 1] = self.recommender.popularity(row as u32) / model.inverse_temperature();
        }
        vectors
    }

    /// Of each query, its vector and 1, over τ.
    fn queries(&self, places: Range<usize>) -> Vec<f32> {
        let (dim, scale) = (self.dim(), self.state.model.inverse_temperature());
        let queries = self.recommender.queries(&self.visitors[places.clone()], self.at);
        let mut vectors = vec![scale; places.len() * dim];
        for (place, vector) in vectors.chunks_exact_mut(dim).enumerate() {
            let query = &queries.encoded.scored_row(place)[..dim - 1];
            vector.iter_mut().zip(query).for_each(|(out, number)| *out = number * scale);
        }
        vectors
    }
}

/// Items, or queries.
struct ExportSide<'a> {
    stem: &'a str,
    names_file: &'a str,
    column: &'a str,
    names: &'a [&'a str],
    is_items: bool,
}

impl ExportSide<'_> {
    /// Writes the files, and tells their names.
    fn write(&self, to: ExportFormat, out: &Path, vectors: &ExportedVectors<'_>) -> anyhow::Result<Vec<String>> {
        let Self { stem, names_file, column, names, is_items } = *self;
        let dim = vectors.dim();
        let mut slice = |rows| if is_items { vectors.items(rows) } else { vectors.queries(rows) };
        let (format, extension) = match to {
            ExportFormat::Parquet => {
                let name = format!("{stem}.parquet");
                write_whole_by(&out.join(&name), |file| Ok(write_table(file, column, names, dim, &mut slice)?))?;
                return Ok(vec![name]);
            }
            // Queries are searched with, not in.
            ExportFormat::Faiss if is_items => (MatrixFormat::FaissFlatIp, "faiss"),
            ExportFormat::Faiss | ExportFormat::Npy => (MatrixFormat::Npy, "npy"),
            ExportFormat::Usearch => (MatrixFormat::Fbin, "fbin"),
        };
        let name = format!("{stem}.{extension}");
        let write = |file: &mut File| Ok(write_matrix(file, format, names.len(), dim, &mut slice)?);
        write_whole_by(&out.join(&name), write)?;
        write_whole_by(&out.join(names_file), |file| Ok(write_names(file, names)?))?;
        Ok(vec![name, names_file.to_owned()])
    }
}
