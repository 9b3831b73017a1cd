//! `recommend`: what users should see next, from a checkpoint, by the full score.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::loaded::{LoadedCheckpoint, row};
use super::print;
use crate::cli::{Layers, RecommendArgs};
use crate::decode::rfc3339_milliseconds;
use crate::exit::UsageError;
use crate::recommend::{ListRules, Recommendation, Recommender, Visitor};
use crate::trainer::state::State;
use crate::util::escape::escape_for_terminal;
use crate::util::nearest::nearest;

pub(super) fn recommend(layers: &Layers, options: RecommendArgs) -> anyhow::Result<()> {
    let at = options.at.as_deref().map(time).transpose()?;
    let only = options.candidates.as_deref().map(candidate_names).transpose()?;
    let LoadedCheckpoint { checkpoint, config, state } = LoadedCheckpoint::read(layers, &options.checkpoint)?;
    let path = &options.checkpoint;
    let item = |name: &String| row("item", &state.items.ids, name, path);
    let recommender = Recommender::new(&state);
    let mut visitors = Vec::new();
    if options.items.is_empty() {
        for name in &options.users {
            visitors.push(user(&state, &recommender, name, path)?);
        }
    } else {
        visitors.push(Visitor::Session(options.items.iter().map(item).collect::<Result<_, _>>()?));
    }
    let excluded: Vec<u32> = options.exclude.iter().map(item).collect::<Result<_, _>>()?;
    // A shop's own list may name items that no event was seen of: they have no score, and are no mistake.
    let only = only.map(|names| names.iter().filter_map(|name| state.items.ids.get(name)).collect::<Vec<u32>>());
    if only.as_ref().is_some_and(Vec::is_empty) {
        return Err(UsageError(format!("--candidates: none of them is an item of {}", path.display())).into());
    }
    let at = at.or_else(|| state.items.last_event.iter().copied().max()).unwrap_or_default();
    let rules =
        ListRules { k: options.k as usize, at, excluded: &excluded, candidates: only.as_deref(), with_own: false };
    let lists_of_visitors = recommender.recommend(&visitors, rules);
    if options.json {
        let lists: Vec<Value> = options.users.iter().map(|user| json!({ "user_id": user })).collect();
        let lists = if lists.is_empty() { vec![json!({ "items": options.items })] } else { lists };
        let lists: Vec<Value> = lists
            .into_iter()
            .zip(&lists_of_visitors)
            .map(|(mut value, list)| {
                value["recommendations"] = rows(&state, list);
                value
            })
            .collect();
        let value = json!({
            "checkpoint": checkpoint.path().display().to_string(),
            "step": checkpoint.manifest().step,
            "at": at,
            "repeat": config.evaluate.repeat,
            "lists": lists,
        });
        print(&format!("{value}\n"));
        return Ok(());
    }
    let mut text = String::new();
    for (place, list) in lists_of_visitors.iter().enumerate() {
        if options.users.len() > 1 {
            let gap = if place > 0 { "\n" } else { "" };
            writeln!(text, "{gap}for {}", escape_for_terminal(&options.users[place]))?;
        }
        text.push_str(&table(&state, list));
    }
    print(&text);
    Ok(())
}

/// The user of that name, of whom there must be something to go by.
pub(super) fn user(
    state: &State,
    recommender: &Recommender<'_>,
    name: &str,
    path: &Path,
) -> Result<Visitor, UsageError> {
    let shown = escape_for_terminal(name);
    let Some(row) = state.users.ids.get(name) else {
        let like = nearest(state.users.ids.iter(), name)
            .map(|(like, _)| format!("; the nearest name is '{}'", escape_for_terminal(like)));
        return Err(UsageError(format!(
            "no user '{shown}' in {}{}: nothing was learnt of them, or it was forgotten ([memory]). Give what they had just now, \
             newest last: --item ITEM …",
            path.display(),
            like.unwrap_or_default()
        )));
    };
    let visitor = Visitor::User(row);
    match recommender.knows(&visitor) {
        true => Ok(visitor),
        false => Err(UsageError(format!(
            "user '{shown}' has no event with an item that still has a row in {}: give what they had just now, newest last: \
             --item ITEM …",
            path.display()
        ))),
    }
}

/// Milliseconds since 1970 UTC.
pub(super) fn time(text: &str) -> Result<i64, UsageError> {
    let milliseconds = text.parse().ok().or_else(|| rfc3339_milliseconds(text));
    milliseconds.ok_or_else(|| {
        UsageError(format!(
            "--at '{}': neither a time (2026-01-31T12:00:00Z) nor milliseconds since 1970",
            escape_for_terminal(text)
        ))
    })
}

/// The names in a file, one a line, or in a list with commas between them.
fn candidate_names(list: &str) -> anyhow::Result<Vec<String>> {
    let path = Path::new(list);
    let names = |text: &str, separator: char| {
        let names = text.split(separator).map(|name| name.trim_end_matches('\r').to_owned());
        names.filter(|name| !name.is_empty()).collect()
    };
    if path.is_file() {
        let text = std::fs::read_to_string(path).with_context(|| format!("--candidates {}", path.display()))?;
        return Ok(names(&text, '\n'));
    }
    Ok(names(list, ','))
}

/// The rows of a list, for machines. What is no finite number is null.
fn rows(state: &State, list: &[Recommendation]) -> Value {
    let row = |(place, row): (usize, &Recommendation)| {
        json!({
            "rank": place + 1,
            "item_id": state.items.ids.name(row.item),
            "score": row.score,
            "similarity": row.similarity,
            "popularity": row.popularity,
            "repetition": row.repetition,
            "cooccurrence": row.cooccurrence,
        })
    };
    list.iter().enumerate().map(row).collect()
}

/// The rows of a list, for people.
fn table(state: &State, list: &[Recommendation]) -> String {
    let names: Vec<String> = list.iter().map(|row| escape_for_terminal(state.items.ids.name(row.item))).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(4);
    let mut text =
        format!("rank  {:<width$}     score  = similarity  + popularity  + repetition  + co-occurrence\n", "item");
    for (place, (name, row)) in names.iter().zip(list).enumerate() {
        let Recommendation { score, similarity, popularity, repetition, cooccurrence, .. } = row;
        writeln!(
            text,
            "{:>4}  {name:<width$}  {score:>8.3}  {similarity:>12.3}  {popularity:>12.3}  {repetition:>12.3}  {cooccurrence:>15.3}",
            place + 1
        )
        .expect("text grows");
    }
    text
}
