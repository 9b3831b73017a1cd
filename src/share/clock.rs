//! The group's clock: how many events the whole group has had, as far as one worker can know it.
//!
//! Counts decay by the events of the group, not of the worker, or the counts of a group of eight would remember eight times
//! as long as those of a single worker. What the others have had since their last deltas is not known yet; but how many events
//! the group had for each of the worker's own, of late, is. So each event of the worker's own lets the clock go on by that
//! many: its *pace*. What the others say later falls into a stretch that has passed already, and is counted where it
//! belongs in it.

/// What counts of the stretches before, from flush to flush, in what the pace is now.
const MEMORY: f64 = 0.5;
/// How much of what the clock is too far ahead a flush takes back in the pace.
const CORRECTION: f64 = 0.1;
/// The fastest pace: a worker that gets next to nothing need not follow the others' every event.
const FASTEST: f64 = 1e4;

/// The number of the group's events, as far as one worker knows it or expects it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupClock {
    /// Events so far, as expected; it never goes back.
    now: f64,
    /// Events that are known: the worker's own, and those of the others' deltas.
    known: f64,
    /// Events of the group for each of the worker's own.
    pace: f64,
    /// Own events since the last flush.
    own: f64,
    /// Events that became known since the last flush, own ones included.
    grown: f64,
    /// The same two up to the last flush, fading.
    before: (f64, f64),
}

impl GroupClock {
    /// A clock of a worker that knows of `known` events of the group, of which there are likely to be `pace` for each of its own:
    /// as many as there are partitions for each of the worker's.
    pub fn new(known: u64, pace: f64) -> Self {
        let known = known as f64;
        Self { now: known, known, pace: pace.clamp(1.0, FASTEST), own: 0.0, grown: 0.0, before: (0.0, 0.0) }
    }

    /// The clock.
    pub fn now(&self) -> f64 {
        self.now
    }

    /// Events of the group for each of the worker's own; 1 of a worker that is alone.
    pub fn pace(&self) -> f64 {
        self.pace
    }

    /// Lets the clock go on by `events` of the worker's own.
    pub fn count_own(&mut self, events: usize) {
        let events = events as f64;
        self.now += events * self.pace;
        self.known += events;
        self.own += events;
        self.grown += events;
    }

    /// Takes note of `events` of another worker; gives by how many events the clock was set on, since it was behind what is
    /// known now.
    pub fn count_others(&mut self, events: u64) -> f64 {
        self.known += events as f64;
        self.grown += events as f64;
        let behind = (self.known - self.now).max(0.0);
        self.now += behind;
        behind
    }

    /// Sets the clock on to `time`, where it is not there yet; gives by how many events that was.
    pub fn set_on(&mut self, time: f64) -> f64 {
        let behind = (time - self.now).max(0.0);
        self.now += behind;
        behind
    }

    /// What part of all events that are known, or expected, came since the last flush, as far as they are the worker's to send.
    pub fn unsent_share(&self) -> f64 {
        self.unsent() / self.now.max(1.0)
    }

    /// How many events of the group there were since the last flush, by the worker's own.
    pub fn unsent(&self) -> f64 {
        self.own * self.pace
    }

    /// Takes note of a flush: the pace becomes what it was since the last one, more or less.
    pub fn flushed(&mut self) {
        // Sums, and not the mean of ratios: a stretch with a lone event of the worker's own says little.
        self.before = (MEMORY * self.before.0 + self.own, MEMORY * self.before.1 + self.grown);
        let (own, grown) = self.before;
        if self.own == 0.0 {
            self.grown = 0.0;
            return;
        }
        // Before anything of others was received, that is no news.
        let pace = if grown > own { grown / own } else { self.pace };
        // What the others have done since their last deltas is ahead of what is known, as it should be; more than that is not.
        let too_far = (self.now - self.known - (pace - 1.0) * self.own).max(0.0);
        self.pace = (pace - CORRECTION * too_far / self.own).clamp(1.0, FASTEST);
        (self.own, self.grown) = (0.0, 0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_worker_counts_its_own() {
        let mut clock = GroupClock::new(7, 1.0);
        for _ in 0..50 {
            clock.count_own(3);
            clock.flushed();
        }
        assert_eq!((clock.now(), clock.pace()), (157.0, 1.0));
    }

    #[test]
    fn clock_keeps_step_with_the_group() {
        // Four workers, of which this one has a tenth of the events; the others' deltas come a flush later.
        let (mut clock, mut truth) = (GroupClock::new(0, 4.0), 0.0);
        for round in 0..200u64 {
            let own = if round == 150 { 1 } else { 100 };
            truth += 900.0 + own as f64;
            clock.count_own(own);
            clock.flushed();
            clock.count_others(900);
            if round > 20 {
                let off = (clock.now() - truth).abs();
                assert!(off < 2_000.0, "round {round}: {} of {truth}", clock.now());
            }
        }
        assert!((clock.pace() / 10.0 - 1.0).abs() < 0.2, "{}", clock.pace());
        // It is left alone, and finds that out.
        (0..60).for_each(|_| {
            clock.count_own(100);
            clock.flushed();
        });
        assert!(clock.pace() < 1.01, "{}", clock.pace());
        let behind = clock.set_on(clock.now() + 5.0);
        assert!((behind - 5.0).abs() < 1e-6 && clock.set_on(0.0) == 0.0);
    }
}
