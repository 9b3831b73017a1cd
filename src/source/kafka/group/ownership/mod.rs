//! Ownership of partitions in a group: the history of claims that is committed beside the offset of each partition, so
//! that each record is part of exactly one worker's durable state, whichever worker is killed, stopped or late.
//!
//! A worker that is assigned a partition *claims* it: it commits the offset at which it begins, and with it, as the offset's
//! metadata, the history of claims with its own as the last. Every later commit carries the same history. A worker that
//! releases a partition in good order closes its claim at the offset it has reached, after its checkpoint is durable. From
//! that follows what a worker must do that is assigned a partition (again), or comes back from a crash:
//!
//! | its own state | the group's history | the worker |
//! | --- | --- | --- |
//! | holds the newest claim | – | goes on at its position, whatever offset is committed |
//! | lost (a damaged checkpoint, a fresh disk, `--fresh`) | its own claim is the newest | begins where that claim began: all since is its own to read |
//! | of the newest claim, under the name that it had then | – | goes on at its position, by a claim of its new name that tells the old one |
//! | older than it was (the newest checkpoint is damaged) | what was read since is this worker's alone | claims the partition anew at its position, and reads that again; the state that reached further is overtaken from then on |
//! | released the partition | its own claim is the newest, open again | goes on at its position: no other worker read the partition in between |
//! | of an earlier claim | the claim after it began at its position | is sound; it begins where the newest stretch ends |
//! | of an earlier claim | the claim after it began *before* its position | has events that are another worker's by now: it goes back to an earlier checkpoint |
//! | of an earlier claim | the claim after it began *behind* its position | has lost events for good, and says so |
//! | not the newest, which is damaged; reaches less far than a stretch of this worker that others have read on from | some | has lost events for good, and says so |
//! | of no claim, read outside of a group | none | goes on at its position |
//! | none | some | begins where the newest stretch ends |
//!
//! Everything here is pure.

use serde::{Deserialize, Serialize};

use crate::position::OwnershipRecord;

/// Longest text of a history: Kafka takes 4,096 bytes (`offset.metadata.max.bytes`).
const LONGEST: usize = 3_500;

/// A claim: one worker's stretch of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Number of the claim, counted for the partition.
    #[serde(rename = "n")]
    pub number: u64,
    /// Name of the worker.
    pub by: String,
    /// First offset of the stretch.
    pub from: u64,
    /// One past the last offset of the stretch, where the worker released the partition in good order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// The name that the worker had before, where it goes on under a new one with what it had read under that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
}

impl Claim {
    /// Whether the claim is that of worker `me`, or of the worker that was called so before.
    fn is_of(&self, me: &str) -> bool {
        self.by == me || self.was.as_deref() == Some(me)
    }
}

/// The newest claims on a partition, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(rename = "negstream_claims")]
    claims: Vec<Claim>,
    /// The number of partitions that the topic had at the group's first claim; partitions beyond were added since.
    #[serde(rename = "of", default, skip_serializing_if = "Option::is_none")]
    n_partitions: Option<u32>,
}

/// A worker's own claim: what its state holds of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalClaim {
    /// First offset that is not part of the state.
    pub position: u64,
    /// How the worker came to own that.
    pub record: OwnershipRecord,
}

/// The place where a worker begins a partition that it is assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At an offset, under the claim of this number; `new` where that has to be made first.
    At {
        /// First offset to read.
        offset: u64,
        /// The claim's number.
        claim: u64,
        /// Whether it is not in the history yet, or closed there.
        new: bool,
    },
    /// Nothing is known of the partition: it is begun as configured for a first start.
    Fresh {
        /// The claim's number.
        claim: u64,
    },
}

/// A conflict between a worker's state and the group's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// Another worker took over before the state's position.
    Overtaken {
        /// First offset of the other worker's stretch.
        from: u64,
    },
    /// Another worker took over behind the state's position: the records between are in no worker's state.
    Short {
        /// First offset of the other worker's stretch.
        from: u64,
    },
    /// The history does not reach back to the state's claim.
    Forgotten,
}

impl Claims {
    /// The history in an offset's metadata; empty where the metadata is not of this program.
    pub fn parse(metadata: &str) -> Self {
        serde_json::from_str(metadata).unwrap_or_default()
    }

    /// The history as an offset's metadata. Where that would be too long, claims are left out: first those of workers that have claimed it since, but
    /// for the ones that tell where a worker's newest stretch ends.
    pub fn to_metadata(&self) -> String {
        let mut kept = self.clone();
        loop {
            let text = serde_json::to_string(&kept).expect("claims are JSON");
            if text.len() <= LONGEST || kept.claims.len() < 2 {
                return text;
            }
            kept.claims.remove(kept.least_needed());
        }
    }

    fn least_needed(&self) -> usize {
        let is_last_of = |index: usize| {
            let by = &self.claims[index].by;
            self.claims[index + 1..].iter().all(|later| later.by != *by)
        };
        let needed = |index: usize| is_last_of(index) || index.checked_sub(1).is_some_and(is_last_of);
        (0..self.claims.len() - 1).find(|index| !needed(*index)).unwrap_or(0)
    }

    /// The number of partitions that the topic had at the group's first claim, where that is known.
    pub fn n_partitions(&self) -> Option<u32> {
        self.n_partitions
    }

    /// All claims that are known, oldest first.
    pub fn iter(&self) -> std::slice::Iter<'_, Claim> {
        self.claims.iter()
    }

    /// The newest claim.
    pub fn newest(&self) -> Option<&Claim> {
        self.claims.last()
    }

    /// Whether the state that worker `me` has of the partition is its own, by this history.
    ///
    /// # Errors
    /// The state is not the worker's own.
    pub fn check(&self, me: &str, own: LocalClaim) -> Result<(), Conflict> {
        let OwnershipRecord::Claim(held) = own.record else { return Ok(()) };
        let Some(newest) = self.newest() else { return Ok(()) };
        if newest.number < held {
            // Somebody set the group's offsets back by hand. The state wins, unless others have begun anew meanwhile.
            return if newest.by == me { Ok(()) } else { Err(Conflict::Forgotten) };
        }
        let Some(index) = self.claims.iter().position(|claim| claim.number > held) else {
            return match newest.until {
                // Let go of, and killed before the state said so.
                Some(until) => self.compare(me, own, until),
                None => Ok(()),
            };
        };
        if self.claims[index].number != held + 1 {
            return Err(Conflict::Forgotten);
        }
        let mine = self.claims.iter().find(|claim| claim.number == held);
        // Another worker that goes back never goes back behind what this one has read: at most to before a claim of its by which
        // it has read nothing.
        let begins = |later: &Claim| match mine {
            Some(mine) if mine.by != later.by => later.from.max(mine.from),
            _ => later.from,
        };
        let end = self.claims[index..].iter().map(begins).min().expect("there is a later claim");
        self.compare(me, own, end)
    }

    /// Compares the position of `own` with the `end` of the stretch that it is of.
    fn compare(&self, me: &str, own: LocalClaim, end: u64) -> Result<(), Conflict> {
        match own.position.cmp(&end) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => Err(Conflict::Overtaken { from: end }),
            // What this worker alone has read since, it can read again.
            std::cmp::Ordering::Less if self.others_end(me, own.record, own.position) == Some(own.position) => Ok(()),
            std::cmp::Ordering::Less => Err(Conflict::Short { from: end }),
        }
    }

    /// One past the last offset that is known to belong to the claim at `index`: where a later one begins, or where it was
    /// let go of. `None` where the claim is open, or it was forgotten which one came next.
    ///
    /// A later claim that begins before the end of an earlier one is of a worker that went back, and read again.
    fn end(&self, index: usize) -> Option<u64> {
        let later = &self.claims[index + 1..];
        let next_is_known = later.first().is_some_and(|next| next.number == self.claims[index].number + 1);
        let until = self.claims[index].until;
        let begun = later.iter().map(|later| later.from).min();
        match begun {
            Some(begun) if next_is_known || until.is_some() => Some(until.map_or(begun, |until| until.min(begun))),
            _ => until,
        }
    }

    /// One past the last offset behind `position` that other workers than `me` have read; `position` where there is none,
    /// and `None` where it is not known how far they read. What `me` holds by `record` is its own whatever it called itself
    /// then.
    fn others_end(&self, me: &str, record: OwnershipRecord, position: u64) -> Option<u64> {
        let held = match record {
            OwnershipRecord::Claim(held) => held,
            OwnershipRecord::Released | OwnershipRecord::Standalone => 0,
        };
        let is_other =
            |claim: &Claim| claim.number >= held && !claim.is_of(me) && record != OwnershipRecord::Claim(claim.number);
        let ends = self
            .claims
            .iter()
            .enumerate()
            .filter(|(_, claim)| is_other(claim))
            .map(|(index, claim)| self.end(index).map(|end| if end > claim.from { end } else { position }));
        ends.chain([Some(position)]).try_fold(position, |furthest, end| Some(furthest.max(end?)))
    }

    /// Whether a state that reaches up to `reached` has all that worker `me` read of the partition before another did: of a
    /// state that is older than the newest, that is not certain. What no other worker has read on from, it can read again.
    ///
    /// # Errors
    /// The state has not, and never will: other workers begin behind its position.
    pub fn check_whole(&self, me: &str, reached: Option<u64>) -> Result<(), Conflict> {
        let others_go_on = |index: usize| {
            let later = self.claims.iter().enumerate().skip(index + 1);
            later
                .filter(|(_, claim)| !claim.is_of(me))
                .any(|(index, claim)| self.end(index).is_none_or(|end| end > claim.from))
        };
        let lost = |(index, claim): (usize, &Claim)| {
            let end = self.end(index)?;
            let is_lost = claim.is_of(me) && end > claim.from && end > reached.unwrap_or(0) && others_go_on(index);
            is_lost.then_some(end)
        };
        match self.claims.iter().enumerate().filter_map(lost).max() {
            Some(from) => Err(Conflict::Short { from }),
            None => Ok(()),
        }
    }

    /// The place where worker `me` begins; its state holds `own`, and `committed` is the group's offset.
    ///
    /// # Errors
    /// The state is not the worker's own.
    pub fn begin(&self, me: &str, own: Option<LocalClaim>, committed: Option<u64>) -> Result<Begin, Conflict> {
        if let Some(own) = own {
            self.check(me, own)?;
        }
        let Some(newest) = self.newest() else {
            // No history: the offsets were deleted or set by hand, or never were. The state wins over them.
            return match (own, committed) {
                // Other workers may have read the partition since, and how far is not known.
                (Some(LocalClaim { record: OwnershipRecord::Released, .. }), None) => Err(Conflict::Forgotten),
                (Some(LocalClaim { position, record: OwnershipRecord::Claim(claim) }), _) => {
                    Ok(Begin::At { offset: position, claim, new: true })
                }
                (Some(LocalClaim { position, record: OwnershipRecord::Standalone }), _) => {
                    Ok(Begin::At { offset: position, claim: 0, new: true })
                }
                (_, Some(committed)) => Ok(Begin::At { offset: committed, claim: 0, new: true }),
                (None, None) => Ok(Begin::Fresh { claim: 0 }),
            };
        };
        if let Some(LocalClaim { position, record: OwnershipRecord::Claim(held) }) = own
            && newest.number < held
        {
            return Ok(Begin::At { offset: position, claim: held, new: true });
        }
        if let Some(begin) = self.begin_again(me, own) {
            return Ok(begin);
        }
        if let Some(LocalClaim { position, record: OwnershipRecord::Claim(held) }) = own
            && newest.number == held
            && newest.until.is_none()
        {
            // No other worker holds this number: under another name it is this one's from before. Should what it had then come
            // back, it finds that it is somebody else's by now.
            let is_renamed = newest.by != me;
            return Ok(Begin::At { offset: position, claim: held + u64::from(is_renamed), new: is_renamed });
        }
        let is_own_claim = newest.by == me;
        Ok(match newest.until {
            // What the state holds is this worker's own, also where it released the partition in between.
            None if is_own_claim => {
                let offset = own.map_or(newest.from, |own| own.position.max(newest.from));
                Begin::At { offset, claim: newest.number, new: false }
            }
            // The worker that made the claim is gone; what it made durable, it committed.
            None => Begin::At { offset: committed.unwrap_or(0).max(newest.from), claim: newest.number + 1, new: true },
            // This worker's own stretch goes on, so that the history stays short.
            Some(until) if is_own_claim => Begin::At { offset: until, claim: newest.number, new: true },
            Some(until) => Begin::At { offset: until, claim: newest.number + 1, new: true },
        })
    }

    /// The state of the partition, whose own state is `own`, to which worker `me` has gone back, if that lacks what it has
    /// read itself, and nobody after it: held by the newest claim, which is its own, so that it is noticed if another worker
    /// begins behind it before this one does.
    pub fn gone_back(&self, me: &str, own: Option<LocalClaim>) -> Option<LocalClaim> {
        let record = own.map_or(OwnershipRecord::Released, |own| own.record);
        match self.begin_again(me, own)? {
            Begin::At { offset, .. } => {
                let mine = &self.claims[self.newest_own(me, record)?];
                Some(LocalClaim { position: offset, record: OwnershipRecord::Claim(mine.number) })
            }
            Begin::Fresh { .. } => None,
        }
    }

    /// The index of the newest claim of worker `me`, after which nobody else has read anything.
    fn newest_own(&self, me: &str, record: OwnershipRecord) -> Option<usize> {
        let is_own = |claim: &Claim| claim.is_of(me) || record == OwnershipRecord::Claim(claim.number);
        let newest = self.claims.iter().rposition(is_own)?;
        let is_idle = |index: usize| self.end(index).is_some_and(|end| end <= self.claims[index].from);
        (newest + 1..self.claims.len()).all(is_idle).then_some(newest)
    }

    /// Where the newest stretches of worker `me` begin, of which no other worker has read anything.
    fn own_since(&self, me: &str) -> Option<u64> {
        let is_of_others =
            |(index, claim): (usize, &Claim)| !claim.is_of(me) && self.end(index).is_none_or(|end| end > claim.from);
        let others = self.claims.iter().enumerate().filter(|claim| is_of_others(*claim)).map(|(index, _)| index + 1);
        let own = &self.claims[others.max().unwrap_or(0)..];
        own.iter().filter(|claim| claim.is_of(me)).map(|claim| claim.from).min()
    }

    /// The place where worker `me` begins whose state has not all that it read itself, and nobody after it: there, by a
    /// claim of a new number. `None` for any other state.
    fn begin_again(&self, me: &str, own: Option<LocalClaim>) -> Option<Begin> {
        let newest = self.newest()?;
        // Without a state, what was read before its own newest stretches is not its business.
        let nothing = || {
            let position = self.own_since(me).unwrap_or(newest.from);
            LocalClaim { position, record: OwnershipRecord::Released }
        };
        let own = own.unwrap_or_else(nothing);
        self.newest_own(me, own.record)?;
        let offset = self.others_end(me, own.record, own.position)?;
        let is_behind = newest.until.map_or(offset < newest.from, |until| offset < until);
        is_behind.then_some(Begin::At { offset, claim: newest.number + 1, new: true })
    }

    /// The history with worker `me` at claim `number`, open, from `offset` on; of a topic of `n_partitions`, where it is
    /// the first claim.
    pub fn claimed(&self, me: &str, number: u64, offset: u64, n_partitions: u32) -> Self {
        let mut claims: Vec<Claim> = self.claims.iter().filter(|claim| claim.number < number).cloned().collect();
        let from = self
            .claims
            .iter()
            .find(|claim| claim.number == number && claim.by == me)
            .map_or(offset, |claim| claim.from);
        claims.push(Claim { number, by: me.to_owned(), from, until: None, was: None });
        Self { claims, n_partitions: self.n_partitions.or(Some(n_partitions)) }
    }

    /// The history whose newest claim tells that its worker was called `was` before; unchanged where it was not.
    #[must_use]
    pub fn renamed_from(mut self, was: Option<&str>) -> Self {
        if let (Some(newest), Some(was)) = (self.claims.last_mut(), was) {
            newest.was = Some(was.to_owned());
        }
        self
    }

    /// The history with its newest claim closed at `offset`.
    pub fn closed(&self, offset: u64) -> Self {
        let mut closed = self.clone();
        if let Some(newest) = closed.claims.last_mut() {
            newest.until = Some(offset);
        }
        closed
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
