//! The place where the trainer leaves views of its state, and where readers find them.
//!
//! There is one view at a time. The trainer replaces it between two steps: it lets the old one go first, so that its tables take
//! their rows back instead of being copied, and freezes the next. Where a reader is at it, the trainer says that it wants its turn, so
//! that no other one begins, and waits for a millisecond at most; then it goes on, and tries again after the next step. Nobody waits
//! for a step meanwhile, unless the view is so old that it has to be replaced. Readers wait for a freeze at most.
//!
//! | who | when |
//! | --- | --- |
//! | trainer | the state has moved since the view, the view is [`FOLLOW_EVERY`] old, and somebody asked lately or the stream is quiet; and no more than a tenth of the time is spent on it |
//! | trainer | nobody has asked for ten seconds, and the stream is busy: then the view is taken away |
//! | reader | of a view that is known to be too old, the next is waited for, that long at most |

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::index::SearchIndex;
use super::view::{FrozenView, StateView, ViewRemains};
use crate::trainer::Trainer;

/// How old a view of a state that has moved may become before the next is made. Requests wait while it is made, the longer the more was
/// written since the one before.
pub const FOLLOW_EVERY: Duration = Duration::from_millis(175);
/// The oldest that a view may be of which it is known that the state has moved, before readers wait for the next.
const OLDEST: Duration = Duration::from_millis(250);
/// For so long after a request views are made although the stream is busy.
const ASKED_LATELY: Duration = Duration::from_secs(10);
/// The longest time that a reader leaves to a trainer that wants its turn, and a trainer to readers before a checkpoint.
const TURN: Duration = Duration::from_millis(50);
/// The longest time that the trainer waits for the reader that is at the view: few answers take longer.
const PATIENCE: Duration = Duration::from_millis(1);
/// How often it looks meanwhile.
const LOOK_AGAIN: Duration = Duration::from_micros(50);
/// From this age of the view on, readers let the trainer go first although it is at a step: late, since they wait for the step then, and
/// before views are too old.
const PRESSING: Duration = Duration::from_millis(240);
/// How long a reader leaves the lock to whoever wants a short look.
const LOOK: Duration = Duration::from_micros(100);
/// A view costs training at most one in so many parts of the time.
const SHARE_OF_TIME: u32 = 10;
/// How often it is noted that a view is still as new as the state.
const CONFIRM_EVERY: Duration = Duration::from_millis(20);

const _: () = assert!(FOLLOW_EVERY.as_millis() < PRESSING.as_millis() && PRESSING.as_millis() < OLDEST.as_millis());

/// A place for one view; clones are the same place.
#[derive(Debug, Clone, Default)]
pub struct ViewSlot(Arc<SharedSlot>);

#[derive(Debug, Default)]
struct SharedSlot {
    contents: Mutex<SlotContents>,
    changed: Condvar,
    /// Whether the state has moved since the view.
    is_behind: AtomicBool,
    /// Whether the trainer waits for readers to let go.
    wants_turn: AtomicBool,
    /// Whether somebody waits for a short look ([`ViewSlot::peek`]).
    wants_look: AtomicBool,
    asked_at: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct SlotContents {
    view: Option<HeldView>,
    /// When the view was known to be as new as the state; before it was read, by so much.
    known_at: Option<(Instant, Duration)>,
    /// The oldest that the view may be, where that is more than [`OLDEST`], since views cost much.
    oldest: Duration,
    /// Where to look for the best of many items; views are made ready with it.
    index: Option<Arc<SearchIndex>>,
    /// How often a view was put here that came from elsewhere: an index that was begun before is none of its rows.
    generation: u64,
}

#[derive(Debug)]
enum HeldView {
    Frozen(Box<FrozenView>),
    Ready(Box<StateView>),
}

/// There is no view yet, or any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoView;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A view is replaced as a whole, so that no panic leaves half of one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ViewSlot {
    /// Asks the view: `read` is given it, and how old what it knows is. Where there is none, one is waited for until `deadline`.
    ///
    /// # Errors
    /// Where none came.
    pub fn read<T>(&self, deadline: Instant, read: impl FnOnce(&StateView, Duration) -> T) -> Result<T, NoView> {
        let SharedSlot { contents, changed, is_behind, wants_turn, wants_look, asked_at } = &*self.0;
        let now = Instant::now();
        *lock(asked_at) = Some(now);
        let left = |until: Instant| until.min(deadline).saturating_duration_since(Instant::now());
        if wants_look.load(Ordering::Acquire) {
            // A lock that is wanted again at once is not given to others.
            std::thread::park_timeout(LOOK);
        }
        let mut contents = lock(contents);
        if wants_turn.load(Ordering::Acquire) {
            let waits = |_: &mut SlotContents| wants_turn.load(Ordering::Acquire);
            contents = changed
                .wait_timeout_while(contents, left(now + TURN), waits)
                .map_or_else(|e| e.into_inner().0, |w| w.0);
        }
        let is_too_old = |contents: &mut SlotContents| {
            let oldest = OLDEST.max(contents.oldest);
            is_behind.load(Ordering::Acquire) && contents.known_at.is_none_or(|(at, _)| at.elapsed() > oldest)
        };
        if is_too_old(&mut contents) {
            contents = changed
                .wait_timeout_while(contents, left(now + OLDEST), is_too_old)
                .map_or_else(|e| e.into_inner().0, |w| w.0);
        }
        let is_missing = |contents: &mut SlotContents| contents.view.is_none();
        contents =
            changed.wait_timeout_while(contents, left(deadline), is_missing).map_or_else(|e| e.into_inner().0, |w| w.0);
        let view = match contents.view.take() {
            Some(HeldView::Ready(view)) => view,
            Some(HeldView::Frozen(frozen)) => Box::new(frozen.ready()),
            None => return Err(NoView),
        };
        let age = contents.known_at.map_or(Duration::ZERO, |(at, before)| at.elapsed() + before);
        let HeldView::Ready(view) = contents.view.insert(HeldView::Ready(view)) else {
            unreachable!("it was just made ready")
        };
        Ok(read(view, age))
    }

    /// Looks at the view, where there is one that was asked before, without asking for another one.
    pub fn peek<T>(&self, look: impl FnOnce(&mut StateView) -> T) -> Option<T> {
        let SharedSlot { contents, wants_turn, wants_look, .. } = &*self.0;
        // The trainer comes first: this can wait.
        if wants_turn.load(Ordering::Acquire) {
            return None;
        }
        wants_look.store(true, Ordering::Release);
        let mut contents = lock(contents);
        let looked = match contents.view.as_mut() {
            Some(HeldView::Ready(view)) => Some(look(view)),
            Some(HeldView::Frozen(_)) | None => None,
        };
        wants_look.store(false, Ordering::Release);
        looked
    }

    /// How often a view of another state was put here: [`Self::set_index`].
    pub fn generation(&self) -> u64 {
        lock(&self.0.contents).generation
    }

    /// Finds lists by `index` from now on, which was begun in this `generation`; in a later one, nothing happens.
    pub fn set_index(&self, index: Arc<SearchIndex>, generation: u64) {
        let mut contents = lock(&self.0.contents);
        if contents.generation != generation {
            return;
        }
        match contents.view.as_mut() {
            Some(HeldView::Ready(view)) => view.attach(Arc::clone(&index)),
            Some(HeldView::Frozen(frozen)) => frozen.attach(Arc::clone(&index)),
            None => {}
        }
        contents.index = Some(index);
    }

    /// Puts a view there that was made from a checkpoint, what it knows being `age` old.
    pub fn put(&self, view: StateView, age: Duration) {
        let mut contents = lock(&self.0.contents);
        // Rows of another checkpoint may have other numbers: only the index that the view brings is one of them.
        contents.index = view.index().cloned();
        contents.generation += 1;
        let before = contents.view.replace(HeldView::Ready(Box::new(view)));
        contents.known_at = Some((Instant::now(), age));
        drop(contents);
        self.0.changed.notify_all();
        // Outside of the lock, since it may be large.
        drop(before);
    }

    /// Whether somebody asked lately.
    pub fn is_asked(&self, now: Instant) -> bool {
        lock(&self.0.asked_at).is_some_and(|at| now.saturating_duration_since(at) < ASKED_LATELY)
    }

    fn holds_any(&self) -> bool {
        self.try_lock().is_some_and(|contents| contents.view.is_some())
    }

    /// What is there, if no reader is at it.
    fn try_lock(&self) -> Option<MutexGuard<'_, SlotContents>> {
        match self.0.contents.try_lock() {
            Ok(contents) => Some(contents),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// The trainer's side of a slot.
#[derive(Debug)]
pub struct ViewWriter {
    slot: ViewSlot,
    model_id: Arc<str>,
    /// Steps taken and records passed at the newest view.
    published: Option<(u64, u64)>,
    published_at: Instant,
    confirmed_at: Instant,
    /// What the newest views cost, the newest first.
    costs: [Duration; 2],
    remains: Option<ViewRemains>,
}

impl ViewWriter {
    /// Leaves views of the model `model_id` in `slot`.
    pub fn new(slot: ViewSlot, model_id: &str) -> Self {
        let now = Instant::now();
        Self {
            slot,
            model_id: model_id.into(),
            published: None,
            published_at: now,
            confirmed_at: now,
            costs: [Duration::ZERO; 2],
            remains: None,
        }
    }

    /// What a view costs: the less of the newest two, since one may have waited for other work of the machine.
    fn cost(&self) -> Duration {
        self.costs[0].min(self.costs[1])
    }

    /// Leaves a view of what `trainer` has learnt where it is time; `is_quiet` where nothing else is to be done.
    pub fn follow(&mut self, trainer: &mut Trainer, is_quiet: bool) {
        let now = Instant::now();
        let progress = &trainer.state.progress;
        let moment = (progress.moves(), progress.passed());
        if self.published == Some(moment) {
            if now.saturating_duration_since(self.confirmed_at) >= CONFIRM_EVERY
                && let Some(mut contents) = self.slot.try_lock()
            {
                contents.known_at = Some((now, Duration::ZERO));
                self.confirmed_at = now;
            }
            return;
        }
        self.slot.0.is_behind.store(true, Ordering::Release);
        let elapsed = now.saturating_duration_since(self.published_at);
        let is_due = elapsed >= FOLLOW_EVERY.max(self.cost() * SHARE_OF_TIME) && (is_quiet || self.slot.is_asked(now));
        if self.published.is_some() && !is_due {
            if elapsed > ASKED_LATELY && !self.slot.is_asked(now) && self.slot.holds_any() {
                // Nobody has a use for it, and it costs a copy of whatever is written.
                let slot = self.slot.clone();
                slot.try_lock().into_iter().for_each(|mut contents| self.let_go(&mut contents));
            }
            return;
        }
        let slot = self.slot.clone();
        slot.0.wants_turn.store(true, Ordering::Release);
        let contents = loop {
            match slot.try_lock() {
                None if now.elapsed() < PATIENCE => std::thread::park_timeout(LOOK_AGAIN),
                contents => break contents,
            }
        };
        match contents {
            Some(contents) => self.publish(contents, trainer, moment),
            None if elapsed < PRESSING => {
                // Readers that have seen it need not wait for the next step.
                slot.0.wants_turn.store(false, Ordering::Release);
                slot.0.changed.notify_all();
            }
            None => {}
        }
    }

    /// Leaves a view of what `trainer` has learnt, which moves no more, for whoever asks from now on; readers are waited for, for a second at most.
    pub fn leave_last(&mut self, trainer: &mut Trainer) {
        let begin = Instant::now();
        loop {
            self.follow(trainer, true);
            if !self.slot.0.is_behind.load(Ordering::Acquire) || begin.elapsed() > TURN * 20 {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// The time until a view is due, `most` at most.
    pub fn wait(&self, most: Duration) -> Duration {
        match self.slot.0.is_behind.load(Ordering::Acquire) {
            true => FOLLOW_EVERY.saturating_sub(self.published_at.elapsed()).max(CONFIRM_EVERY).min(most),
            false => most,
        }
    }

    fn publish(&mut self, mut contents: MutexGuard<'_, SlotContents>, trainer: &mut Trainer, moment: (u64, u64)) {
        let begin = Instant::now();
        self.let_go(&mut contents);
        let (model_id, remains, index) = (Arc::clone(&self.model_id), self.remains.take(), contents.index.clone());
        let frozen = trainer.in_pool(|state| FrozenView::of(state, model_id, remains, index));
        let pause = begin.elapsed();
        self.costs = [pause, self.costs[0]];
        contents.view = Some(HeldView::Frozen(Box::new(frozen.with_pause(pause))));
        contents.known_at = Some((begin, Duration::ZERO));
        contents.oldest = self.cost() * SHARE_OF_TIME + OLDEST - FOLLOW_EVERY;
        (self.published, self.published_at, self.confirmed_at) = (Some(moment), begin, begin);
        self.slot.0.is_behind.store(false, Ordering::Release);
        self.slot.0.wants_turn.store(false, Ordering::Release);
        drop(contents);
        self.slot.0.changed.notify_all();
    }

    /// Takes the view away, so that the state shares its tables with nobody, where readers let go of it in time: whoever freezes
    /// the state for long would have to copy them. [`Self::follow`] leaves another one.
    pub fn take_away(&mut self) {
        self.slot.0.wants_turn.store(true, Ordering::Release);
        let (slot, begin) = (self.slot.clone(), Instant::now());
        let contents = loop {
            match slot.try_lock() {
                None if begin.elapsed() < TURN => std::thread::park_timeout(Duration::from_millis(1)),
                contents => break contents,
            }
        };
        if let Some(mut contents) = contents {
            self.let_go(&mut contents);
        }
        // Also where readers were at it: the next view is due at once.
        self.published = None;
    }

    fn let_go(&mut self, contents: &mut SlotContents) {
        self.remains = match contents.view.take() {
            Some(HeldView::Frozen(frozen)) => Some(frozen.into_remains()),
            Some(HeldView::Ready(view)) => Some(view.into_remains()),
            None => self.remains.take(),
        };
    }
}
