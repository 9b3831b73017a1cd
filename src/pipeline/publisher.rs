//! Copies what changed for the sinks, a few times a second, and brings them up to the final table at an end.
//!
//! Publishing reads the state between two steps and changes nothing of it that training, or a checkpoint, depends on. What sinks hold
//! may be ahead of the newest durable checkpoint: a worker that comes back publishes its whole table under a new epoch first, so
//! that nothing stays of what it had to take back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::PipelineError;
use super::change_set::ChangeSet;
use super::freshness::{EventAges, Freshness};
use super::outlet::{SinkOutlet, Wants};
use super::selection::{ChangeSelection, RecentUsers};
use super::sink_figures::SinkFigures;
use super::user_queries::{PendingUsers, UserQueries};
use crate::event::Interaction;
use crate::publish::{self, EmbeddingSink, SinkConfig, SinkError, SinkOptions, UpdateKind};
use crate::signals::Stop;
use crate::trainer::changes::EmbeddingChanges;
use crate::trainer::state::State;

/// How often sinks are given what changed.
const FEED_EVERY: Duration = Duration::from_millis(250);

/// A sink, and how it is sent to.
pub(super) type OpenSink = (Box<dyn EmbeddingSink>, SinkOptions);

/// Opens the sinks of a configuration.
///
/// # Errors
/// A sink that can never be opened.
pub(super) fn open_sinks<'a>(sinks: impl IntoIterator<Item = &'a SinkConfig>) -> Result<Vec<OpenSink>, SinkError> {
    sinks.into_iter().map(|sink| Ok((publish::open(sink)?, sink.common.clone()))).collect()
}

/// The sinks of a pipeline.
#[derive(Debug)]
pub(super) struct Publisher {
    outlets: Vec<PublishedSink>,
    /// What is sent where not every touched row is: one for each wanted recall, and precision of what readers see.
    selections: Vec<ChangeSelection>,
    recent: RecentUsers,
    /// Users whose queries were not copied yet; `None` where no sink takes any.
    pending: Option<PendingUsers>,
    began: Instant,
    fed_at: Option<Instant>,
    /// Steps taken when the changes were copied last, and when that was first seen.
    fed_step: Option<(u64, Instant)>,
    /// Of events that were trained on, and of which nothing was sent yet.
    ages: EventAges,
}

/// A sink, and what it is sent.
#[derive(Debug)]
struct PublishedSink {
    outlet: SinkOutlet,
    /// Its selection; `None` where every touched row is sent.
    selection: Option<usize>,
    /// When its log-frequencies were copied last, and the steps and events of that.
    popularity_at: Option<(Instant, (u64, u64))>,
}

impl Publisher {
    /// Starts a thread for each of `sinks`, whose embeddings are those of `model_id`, of `dim` numbers.
    ///
    /// # Errors
    /// The operating system starts no thread.
    pub(super) fn start(sinks: Vec<OpenSink>, model_id: &str, dim: usize) -> Result<Self, PipelineError> {
        let (mut outlets, mut selections) = (Vec::<PublishedSink>::new(), Vec::<ChangeSelection>::new());
        for (sink, options) in sinks {
            let selection = (options.recall < 1.0).then(|| {
                let precision = sink.precision();
                selections.iter().position(|selection| selection.serves(&options, precision)).unwrap_or_else(|| {
                    selections.push(ChangeSelection::new(&options, precision, dim));
                    selections.len() - 1
                })
            });
            let same = outlets.iter().filter(|other| other.outlet.name() == sink.name()).count();
            let label = if same == 0 { sink.name().to_owned() } else { format!("{}-{}", sink.name(), same + 1) };
            let outlet = SinkOutlet::start(sink, options, model_id.to_owned(), label)
                .map_err(|source| PipelineError::Thread { purpose: "publishing", source })?;
            outlets.push(PublishedSink { outlet, selection, popularity_at: None });
        }
        let takes_queries = outlets.iter().any(|sink| sink.outlet.takes_queries);
        Ok(Self {
            outlets,
            selections,
            pending: takes_queries.then(PendingUsers::default),
            recent: RecentUsers::default(),
            began: Instant::now(),
            fed_at: None,
            fed_step: None,
            ages: EventAges::none(),
        })
    }

    /// What was sent to each sink, and how fresh it is.
    pub(super) fn figures(&self) -> Vec<SinkFigures> {
        let now = self.now();
        let figures = |sink: &PublishedSink| {
            let mut figures = sink.outlet.figures();
            if let Some(selection) = sink.selection {
                let (held, oldest, recall) = self.selections[selection].figures(now);
                (figures.held_rows, figures.oldest_held_seconds, figures.recall) = (held as u64, oldest, recall);
            }
            figures
        };
        self.outlets.iter().map(figures).collect()
    }

    /// Notes an event that is ingested: its user is one whose list may be compared, and whose query is another from now on.
    pub(super) fn note_event(&mut self, event: &Interaction) {
        if !self.selections.is_empty() {
            self.recent.note(&event.user, event.timestamp);
        }
        if let Some(pending) = &mut self.pending {
            pending.note(&event.user, event.timestamp);
        }
    }

    /// Gives the sinks what changed, where it is time.
    pub(super) fn feed_if_due(&mut self, state: &mut State, freshness: &mut Freshness, stop: &Stop) {
        let is_due = self.fed_at.is_none_or(|fed_at| fed_at.elapsed() >= FEED_EVERY);
        if is_due && self.outlets.is_empty() {
            // Another worker publishes the shared model: names of evicted items must not pile up meanwhile.
            self.fed_at = Some(Instant::now());
            state.drain_changes();
        } else if is_due {
            self.feed(state, freshness, stop, false);
            for (number, selection) in self.selections.iter_mut().enumerate() {
                let is_used =
                    |sink: &PublishedSink| sink.selection == Some(number) && sink.outlet.wants() == Wants::Changes;
                if self.outlets.iter().any(is_used) {
                    selection.measure_if_due(state, &self.recent);
                }
            }
        }
    }

    /// Milliseconds since it was started.
    fn now(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Gives the sinks what changed; at the end, all that they lack, and the log-frequencies of all items too.
    fn feed(&mut self, state: &mut State, freshness: &mut Freshness, stop: &Stop, is_end: bool) {
        let (now, step, at) = (Instant::now(), state.progress.moves(), moment(state));
        self.fed_at = Some(now);
        let has_moved = self.fed_step.is_none_or(|(fed_step, _)| fed_step != step);
        let changes = if has_moved { state.drain_changes().unwrap_or_default() } else { EmbeddingChanges::default() };
        self.ages.merge(freshness.take_unpublished());
        if has_moved {
            self.fed_step = Some((step, now));
        } else if !is_end {
            self.bring_up_where_it_is_quiet(now);
        }
        let state = &*state;
        // Asked once: whoever comes back meanwhile is served the next time.
        let wants: Vec<Wants> = self.outlets.iter().map(|sink| sink.outlet.wants()).collect();
        let selected = self.select(state, &changes, &wants, has_moved, is_end);
        let ages = self.ages.clone();
        // Taken once for all sinks that take any, so each of them has to be given something: after the last step, the whole table is.
        let mut takers = self
            .outlets
            .iter()
            .zip(&wants)
            .filter(|(sink, wants)| sink.outlet.takes_queries && **wants != Wants::Nothing)
            .map(|(_, wants)| has_moved || *wants == Wants::Everything)
            .peekable();
        let is_taken = takers.peek().is_some() && takers.all(|is_given| is_given);
        let queries = self.pending.as_mut().filter(|_| is_taken).map(|pending| pending.take(state));
        let queries = queries.unwrap_or_default();
        let copies =
            Copies { state, changes: &changes, selected: &selected, selections: &self.selections, queries, ages };
        // Copied once for all sinks of a selection, or without any, that take queries, or do not.
        let n_kinds = 2 * (self.selections.len() + 1);
        let (mut full, mut deltas) = (vec![None; n_kinds], vec![[None, None]; n_kinds]);
        let mut is_offered = false;
        for (PublishedSink { outlet, selection, popularity_at }, wants) in self.outlets.iter_mut().zip(wants) {
            let (takes, selection) = (outlet.takes_queries, *selection);
            let kind = 2 * selection.map_or(0, |number| number + 1) + usize::from(takes);
            let set = match wants {
                Wants::Nothing => continue,
                Wants::Everything => {
                    *popularity_at = Some((now, at));
                    full[kind].get_or_insert_with(|| Arc::new(copies.everything(selection, takes)))
                }
                Wants::Changes if !has_moved => continue,
                Wants::Changes => {
                    let every = Duration::from_secs(outlet.options.popularity_every_seconds);
                    let with_popularity =
                        is_end || popularity_at.is_none_or(|(at, _)| now.saturating_duration_since(at) >= every);
                    if with_popularity {
                        *popularity_at = Some((now, at));
                    }
                    deltas[kind][usize::from(with_popularity)]
                        .get_or_insert_with(|| Arc::new(copies.what_changed(selection, takes, with_popularity)))
                }
            };
            is_offered = true;
            outlet.offer(Arc::clone(set), stop);
        }
        if is_offered {
            self.ages = EventAges::none();
        }
    }

    /// For each selection, the rows that are sent of it now.
    fn select(
        &mut self,
        state: &State,
        changes: &EmbeddingChanges,
        wants: &[Wants],
        has_moved: bool,
        is_end: bool,
    ) -> Vec<Vec<u32>> {
        let now = self.now();
        let Self { outlets, selections, .. } = self;
        let select = |(number, selection): (usize, &mut ChangeSelection)| {
            selection.follow(changes);
            let of_selection = outlets.iter().zip(wants).filter(|(sink, _)| sink.selection == Some(number));
            let wants: Vec<Wants> = of_selection.map(|(_, wants)| *wants).collect();
            if wants.contains(&Wants::Changes) {
                if has_moved { selection.select(state, changes, now, is_end) } else { Vec::new() }
            } else {
                if wants.contains(&Wants::Everything) {
                    // Nobody holds what was published before.
                    selection.reset(state);
                }
                Vec::new()
            }
        };
        selections.iter_mut().enumerate().map(select).collect()
    }

    /// Where no step was taken for as long as a row may be held back, asks for the whole table where rows are: an update of one
    /// step comes once.
    fn bring_up_where_it_is_quiet(&mut self, now: Instant) {
        let Some((step, since)) = self.fed_step else { return };
        for (number, selection) in self.selections.iter().enumerate() {
            if selection.n_held() > 0 && now.saturating_duration_since(since) >= selection.max_age() {
                let of_selection = self.outlets.iter().filter(|sink| sink.selection == Some(number));
                of_selection.for_each(|sink| sink.outlet.want_everything());
                self.fed_step = Some((step, now));
            }
        }
    }

    /// Brings the sinks up to `state`, and waits until they hold it, each for its patience at most.
    pub(super) fn finish(&mut self, state: &mut State, freshness: &mut Freshness) {
        if self.outlets.is_empty() {
            return;
        }
        let (begin, now, never) = (Instant::now(), moment(state), Stop::new());
        self.outlets.iter().for_each(|sink| sink.outlet.hasten());
        self.feed(state, freshness, &never, true);
        for PublishedSink { outlet, popularity_at, selection } in &self.outlets {
            let is_behind = selection.is_some_and(|number| self.selections[number].n_held() > 0);
            if is_behind || popularity_at.is_none_or(|(_, at)| at != now) {
                // It holds something of the newest step already, and an update of one version comes once.
                outlet.want_everything();
            }
        }
        let mut is_waited_for = vec![true; self.outlets.len()];
        while is_waited_for.contains(&true) {
            self.feed(state, freshness, &never, true);
            for (sink, is_waited_for) in self.outlets.iter().zip(&mut is_waited_for).filter(|(_, waits)| **waits) {
                let outlet = &sink.outlet;
                let is_over = begin.elapsed() >= Duration::from_secs(outlet.options.patience);
                match outlet.is_settled() {
                    Some(true) => *is_waited_for = false,
                    Some(false) if !is_over => {}
                    Some(false) | None => {
                        tracing::error!(
                            sink = outlet.name(),
                            "a sink does not hold the final table; the next start makes it whole"
                        );
                        *is_waited_for = false;
                    }
                }
            }
        }
    }
}

/// Steps taken, and events read: frequencies move with the latter.
fn moment(state: &State) -> (u64, u64) {
    (state.progress.moves(), state.progress.events.read)
}

/// What is copied of a state at one moment.
struct Copies<'a> {
    state: &'a State,
    changes: &'a EmbeddingChanges,
    /// For each selection, the rows that are sent.
    selected: &'a [Vec<u32>],
    selections: &'a [ChangeSelection],
    queries: UserQueries,
    ages: EventAges,
}

impl Copies<'_> {
    /// The whole table: where other sinks of the selection hold rows that are older, as they hold it.
    fn everything(&self, selection: Option<usize>, with_queries: bool) -> ChangeSet {
        let rows = 0..self.state.items.ids.len();
        self.copy(UpdateKind::Full, rows, selection, with_queries)
    }

    /// The changed rows, and the log-frequencies of all others where they are asked for.
    fn what_changed(&self, selection: Option<usize>, with_queries: bool, with_popularity: bool) -> ChangeSet {
        let Self { state, changes, selected, .. } = self;
        let rows = selection.map_or(&changes.changed, |number| &selected[number]);
        let mut set = self.copy(UpdateKind::Delta, rows.iter().map(|row| *row as usize), selection, with_queries);
        set.removed.clone_from(&changes.removed);
        if with_popularity {
            let others = (0..state.items.ids.len() as u32).filter(|row| rows.binary_search(row).is_err());
            let popularity =
                others.map(|row| (state.items.ids.name(row).into(), state.negatives.frequencies.log_frequency(row)));
            set.popularity = popularity.collect();
        }
        set
    }

    fn copy(
        &self,
        kind: UpdateKind,
        rows: impl Iterator<Item = usize>,
        selection: Option<usize>,
        with_queries: bool,
    ) -> ChangeSet {
        let state = self.state;
        let (dim, rows): (usize, Vec<usize>) = (state.model.dim(), rows.collect());
        let selection = selection.map(|number| &self.selections[number]);
        let mut embeddings = vec![0.0; rows.len() * dim];
        for (row, out) in rows.iter().zip(embeddings.chunks_exact_mut(dim)) {
            match selection.and_then(|selection| selection.published(*row)) {
                Some(published) => out.copy_from_slice(published),
                None => state.model.served(*row, out),
            }
        }
        let log_frequency = |row: &usize| state.negatives.frequencies.log_frequency(*row as u32);
        ChangeSet {
            kind,
            step: state.progress.moves(),
            dim,
            n_items: state.items.ids.len(),
            names: rows.iter().map(|row| state.items.ids.name(*row as u32).into()).collect(),
            embeddings,
            log_frequencies: rows.iter().map(log_frequency).collect(),
            removed: Vec::new(),
            popularity: Vec::new(),
            queries: if with_queries { self.queries.clone() } else { UserQueries::default() },
            ages: self.ages.clone(),
        }
    }
}
