//! Answers to requests that came together, from one view: lists share a pass over the items, as do neighbours.

use std::time::Duration;

use compact_str::CompactString;

use super::endpoint::Endpoint;
use super::filter::CatalogueFilter;
use super::messages::{
    ItemVectorAnswer, Knowledge, LikeItem, NeighborItem, NeighborsAnswer, RankedItem, RecommendAnswer,
    RecommendRequest, ScoreAnswer, ScoreRequest, UserVectorAnswer,
};
use super::problem::{ApiProblem, ProblemKind};
use crate::recommend::view::{NearItem, StateView, ViewFacts};
use crate::recommend::{ListRules, Recommendation, Visitor, Wish};

/// Length of a list where none is asked for.
pub(super) const DEFAULT_K: usize = 20;
/// Neighbours where no number is asked for.
pub(super) const DEFAULT_NEIGHBORS: usize = 10;
/// What is found where no number is asked for.
pub(super) const DEFAULT_FOUND: usize = 20;

/// The number of things that a path gives where none is asked for (`k`); `None` of one that takes no number.
pub(super) fn default_number(endpoint: Endpoint) -> Option<usize> {
    match endpoint {
        Endpoint::Neighbors => Some(DEFAULT_NEIGHBORS),
        Endpoint::Items | Endpoint::Users => Some(DEFAULT_FOUND),
        Endpoint::Recommend | Endpoint::Score | Endpoint::ItemVector | Endpoint::UserVector | Endpoint::Map => None,
    }
}

/// What is asked, within its limits.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ApiQuestion {
    Recommend(RecommendRequest),
    Score(ScoreRequest),
    Neighbors { item: String, k: usize },
    ItemVector(String),
    UserVector(String),
}

/// The body of an answer, or a problem.
pub(super) type ApiAnswer = Result<Vec<u8>, ApiProblem>;

/// What a list is asked with, by rows.
struct ResolvedList {
    visitor: Visitor,
    k: usize,
    at: i64,
    excluded: Vec<u32>,
    candidates: Option<Vec<u32>>,
    unknown: Vec<CompactString>,
}

/// Answers `questions` from `view`, which knew what it knows `age` ago.
pub(super) fn answer_all(
    view: &StateView,
    age: Duration,
    filter: &mut CatalogueFilter,
    questions: &[&ApiQuestion],
) -> Vec<ApiAnswer> {
    let mut answers: Vec<Option<ApiAnswer>> = vec![None; questions.len()];
    let facts = view.facts();
    let knowledge = || knowledge(facts, age);
    let (mut lists, mut neighborhoods) = (Vec::new(), Vec::new());
    for (place, question) in questions.iter().enumerate() {
        match question {
            ApiQuestion::Recommend(request) => match resolve(view, filter, request) {
                Ok(list) => lists.push((place, list)),
                Err(problem) => answers[place] = Some(Err(problem)),
            },
            ApiQuestion::Neighbors { item, k } => match known_item(view, item) {
                Ok(row) => neighborhoods.push((place, (row, *k))),
                Err(problem) => answers[place] = Some(Err(problem)),
            },
            ApiQuestion::Score(request) => {
                answers[place] = Some(scores(view, filter, request, knowledge()));
            }
            ApiQuestion::ItemVector(item) => {
                answers[place] = Some(known_item(view, item).and_then(|row| {
                    let (vector, popularity) = view.item_vector(row);
                    body(&ItemVectorAnswer { model: knowledge(), item_id: item.clone(), vector, popularity })
                }));
            }
            ApiQuestion::UserVector(user) => {
                answers[place] = Some(known_user(view, user).and_then(|visitor| {
                    let at = facts.newest_event.unwrap_or_default();
                    let vector = view.query_vector(&visitor, at).unwrap_or_default();
                    body(&UserVectorAnswer { model: knowledge(), user_id: user.clone(), at, vector })
                }));
            }
        }
    }
    let wishes: Vec<Wish<'_>> = lists.iter().map(|(_, list)| wish(list)).collect();
    let recommended = view.recommender().recommend_each(&wishes);
    drop(wishes);
    for ((place, list), rows) in lists.into_iter().zip(recommended) {
        let recommendations = ranked(view, filter, &list.visitor, &rows);
        let (at, unknown_items) = (list.at, list.unknown);
        answers[place] = Some(body(&RecommendAnswer { model: knowledge(), at, recommendations, unknown_items }));
    }
    let asked: Vec<(u32, usize)> = neighborhoods.iter().map(|(_, asked)| *asked).collect();
    let near = if asked.is_empty() { Vec::new() } else { view.neighbors(&asked) };
    for ((place, (row, _)), near) in neighborhoods.into_iter().zip(near) {
        let neighbor = |near: &NearItem| NeighborItem {
            item_id: view.items().name(near.item),
            title: filter.title(view.items().name(near.item)),
            cosine: near.cosine,
            count: view.occurrences(near.item),
        };
        let item_id = view.items().name(row).to_owned();
        let neighbors = near.iter().map(neighbor).collect();
        answers[place] = Some(body(&NeighborsAnswer { model: knowledge(), item_id, neighbors }));
    }
    let fault = || Err(ApiProblem::new(ProblemKind::Fault, "the request was not answered"));
    answers.into_iter().map(|answer| answer.unwrap_or_else(fault)).collect()
}

fn wish(list: &ResolvedList) -> Wish<'_> {
    let ResolvedList { visitor, k, at, excluded, candidates, unknown: _ } = list;
    let rules = ListRules { k: *k, at: *at, excluded, candidates: candidates.as_deref(), with_own: false };
    Wish { visitor: visitor.clone(), rules }
}

/// What a view knew `age` ago.
pub(super) fn knowledge(facts: &ViewFacts, age: Duration) -> Knowledge {
    Knowledge {
        model_id: facts.model_id.to_string(),
        step: facts.step,
        events: facts.events,
        newest_event: facts.newest_event,
        age_ms: age.as_millis() as u64,
    }
}

pub(super) fn body(answer: &impl serde::Serialize) -> ApiAnswer {
    serde_json::to_vec(answer).map_err(|error| ApiProblem::new(ProblemKind::Fault, error.to_string()))
}

/// The rows and rules of a request.
fn resolve(
    view: &StateView,
    filter: &mut CatalogueFilter,
    request: &RecommendRequest,
) -> Result<ResolvedList, ApiProblem> {
    let RecommendRequest { user, items, k, exclude, candidates, filter: wanted, at } = request;
    let rows = |names: &[CompactString]| names.iter().filter_map(|name| view.items().get(name)).collect::<Vec<u32>>();
    let mut unknown = Vec::new();
    let visitor = match (user, items) {
        (Some(user), None) => known_user(view, user)?,
        (None, Some(items)) => {
            let known = rows(items);
            unknown.extend(items.iter().filter(|name| view.items().get(name).is_none()).cloned());
            if known.is_empty() {
                return Err(ApiProblem::new(ProblemKind::UnknownItem, "the model knows none of 'items'"));
            }
            Visitor::Session(known)
        }
        _ => return Err(ApiProblem::new(ProblemKind::Invalid, "either 'user' or 'items' is needed, and not both")),
    };
    let mut candidates = candidates.as_deref().map(rows);
    if let Some(wanted) = wanted {
        let left = filter.rows(wanted, view.items())?;
        candidates = Some(match candidates {
            None => left,
            Some(mut candidates) => {
                let mut left = left;
                left.sort_unstable();
                candidates.retain(|row| left.binary_search(row).is_ok());
                candidates
            }
        });
    }
    Ok(ResolvedList {
        visitor,
        k: k.map_or(DEFAULT_K, |k| k as usize),
        at: at.or(view.facts().newest_event).unwrap_or_default(),
        excluded: exclude.as_deref().map(rows).unwrap_or_default(),
        candidates,
        unknown,
    })
}

fn scores(view: &StateView, titles: &CatalogueFilter, request: &ScoreRequest, model: Knowledge) -> ApiAnswer {
    let ScoreRequest { user, items, at } = request;
    let visitor = known_user(view, user)?;
    let at = at.or(view.facts().newest_event).unwrap_or_default();
    let (mut rows, mut unknown_items) = (Vec::new(), Vec::new());
    for item in items {
        match view.items().get(item) {
            Some(row) => rows.push(row),
            None => unknown_items.push(item.clone()),
        }
    }
    let mut found = view.scores(visitor.clone(), &rows, at);
    found.sort_unstable_by_key(|row| row.item);
    // In the order of the request, each once.
    let mut is_given = vec![false; found.len()];
    let mut in_order = Vec::with_capacity(found.len());
    for row in rows {
        if let Ok(place) = found.binary_search_by_key(&row, |found| found.item)
            && !std::mem::replace(&mut is_given[place], true)
        {
            in_order.push(found[place]);
        }
    }
    let scores = ranked(view, titles, &visitor, &in_order);
    body(&ScoreAnswer { model, at, scores, unknown_items })
}

fn ranked<'a>(
    view: &'a StateView,
    titles: &'a CatalogueFilter,
    visitor: &Visitor,
    rows: &[Recommendation],
) -> Vec<RankedItem<'a>> {
    let named = |row: u32| {
        let item_id = view.items().name(row);
        (item_id, titles.title(item_id))
    };
    let items: Vec<u32> = rows.iter().map(|row| row.item).collect();
    // Names lie all over their table: memory fetches them while the cosines are computed.
    items.iter().for_each(|item| view.items().ask_ahead(*item));
    let like = view.most_like(visitor, &items);
    let item = |(row, like): (&Recommendation, Option<NearItem>)| {
        let (item_id, title) = named(row.item);
        let like = like.map(|like| {
            let (item_id, title) = named(like.item);
            LikeItem { item_id, title, cosine: like.cosine }
        });
        RankedItem {
            item_id,
            title,
            score: row.score,
            similarity: row.similarity,
            popularity: row.popularity,
            repetition: row.repetition,
            cooccurrence: row.cooccurrence,
            like,
        }
    };
    rows.iter().zip(like).map(item).collect()
}

fn known_item(view: &StateView, name: &str) -> Result<u32, ApiProblem> {
    view.items().get(name).ok_or_else(|| {
        // Without the nearest name, which `recommend` gives: whom the model knows is nobody's business here, and looking takes long.
        ApiProblem::new(ProblemKind::UnknownItem, format!("the model does not know item '{}'", shortened(name)))
    })
}

/// The user of that name, of whom something is known.
fn known_user(view: &StateView, name: &str) -> Result<Visitor, ApiProblem> {
    let unknown = |why: String| ApiProblem::new(ProblemKind::UnknownUser, why);
    let name_shown = shortened(name);
    let Some(row) = view.users().get(name) else {
        return Err(unknown(format!("the model does not know user '{name_shown}'; give what they had as 'items'")));
    };
    let visitor = Visitor::User(row);
    match view.recommender().knows(&visitor) {
        true => Ok(visitor),
        false => Err(unknown(format!("user '{name_shown}' has no event with an item that still has a row"))),
    }
}

/// A name in a message: its first characters.
fn shortened(name: &str) -> String {
    name.chars().take(80).collect()
}
