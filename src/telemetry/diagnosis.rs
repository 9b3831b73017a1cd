//! The diagnosis: is the worker well, and why? One sentence for people, from what metrics, health and status tell.
//!
//! A pure function of these and the time, so that every sentence has a test. Remarks name what is to be looked at, the worst
//! first; where there is none, the sentence says what goes well.

use serde::Serialize;

use super::health::{Liveness, Readiness};
use super::phase::Stage;
use super::status::Status;
use crate::pipeline::SinkCondition;

/// A checkpoint that is older than this, in seconds, with records read since, is remarked upon.
const OLD_CHECKPOINT: f64 = 900.0;
/// A lag that takes longer than this to catch up with, in seconds, is remarked upon.
const LONG_LAG: f64 = 30.0;
/// Events that wait for longer than this for their batch, in seconds, are remarked upon.
const LONG_WAIT: f64 = 10.0;
/// The share of rejected records that is remarked upon.
const MANY_REJECTED: f64 = 0.05;
/// Events over which the model has to be better than popularity before it is remarked upon.
const ENOUGH_EVENTS: u64 = 2_000;

/// How a worker is, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// All is as it should be.
    Well,
    /// It begins or ends, as it should.
    Changing,
    /// Somebody should look at it.
    Watch,
    /// Something has to be done.
    Ill,
}

/// How a worker is, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diagnosis {
    /// The worst of the remarks.
    pub condition: Condition,
    /// The condition and its main reason, in a sentence.
    pub sentence: String,
    /// What is to be looked at besides, worst first.
    pub remarks: Vec<String>,
}

/// The diagnosis of a worker with this `status` at `now`, seconds since 1970.
pub fn diagnose(status: &Status, liveness: &Liveness, readiness: &Readiness, now: f64) -> Diagnosis {
    let mut remarks: Vec<(Condition, String)> = Vec::new();
    lifecycle(status, liveness, readiness, &mut remarks);
    if status.replica.is_none() {
        stream(status, now, &mut remarks);
        checkpoints(status, now, &mut remarks);
        sinks(status, &mut remarks);
        learning(status, &mut remarks);
    }
    // Stable: of the same condition, the first is the one that others follow from.
    remarks.sort_by_key(|(condition, _)| std::cmp::Reverse(*condition));
    let mut remarks = remarks.into_iter();
    match remarks.next() {
        None => Diagnosis { condition: Condition::Well, sentence: well(status, now), remarks: Vec::new() },
        Some((condition, reason)) => {
            let begin = match condition {
                Condition::Well | Condition::Changing => "",
                Condition::Watch => "Look at it: ",
                Condition::Ill => "It is not well: ",
            };
            let remarks = remarks.map(|(_, text)| capitalised(&text)).collect();
            Diagnosis { condition, sentence: capitalised(&format!("{begin}{reason}")), remarks }
        }
    }
}

/// The sentence of a worker that is well.
fn well(status: &Status, now: f64) -> String {
    let Status { run, trainer, replica, .. } = status;
    if let Some(replica) = replica {
        return format!(
            "It is well: it answers from the checkpoint of step {}, written {} ago.",
            grouped(replica.step),
            time(now - replica.written_at)
        );
    }
    let mut parts = Vec::new();
    if trainer.events.read == 0 {
        parts.push("it waits for its first record".to_owned());
    } else if run.events_per_second > 0.5 {
        parts.push(format!("it learns {} events a second", grouped(run.events_per_second.round() as u64)));
    } else {
        parts.push("it has learnt all there is, and waits for more".to_owned());
    }
    match run.lag.iter().map(|lag| lag.events).sum::<u64>() {
        0 => {}
        lag => parts.push(format!("{} records are still to come", grouped(lag))),
    }
    if let Some(seconds) = run.freshness.read_to_weights.quantile(0.9) {
        parts.push(format!("an event is in the weights within {}", time(seconds)));
    }
    if let (Some(written_at), true) = (run.checkpoints.written_at, run.checkpoints.newest.is_some()) {
        parts.push(format!("the newest checkpoint is {} old", time(now - written_at)));
    }
    let last = parts.pop().unwrap_or_default();
    match parts.is_empty() {
        true => format!("It is well: {last}."),
        false => format!("It is well: {}, and {last}.", parts.join(", ")),
    }
}

fn lifecycle(status: &Status, liveness: &Liveness, readiness: &Readiness, remarks: &mut Vec<(Condition, String)>) {
    let mut put = |condition, text: String| remarks.push((condition, text));
    match status.lifecycle.stage {
        Stage::Failed { reason } => {
            let text = format!("the worker gave up, since {}; its last log lines say more.", failure(reason));
            return put(Condition::Ill, text);
        }
        Stage::Done => {
            let learnt = format!("It is done: {} records were read.", grouped(status.trainer.events.read));
            return put(Condition::Changing, learnt);
        }
        Stage::Draining => {
            return put(Condition::Changing, "it was told to stop, and saves what it has learnt.".to_owned());
        }
        Stage::Starting => put(Condition::Changing, "it has just begun.".to_owned()),
        Stage::Restoring => put(Condition::Changing, "it reads its newest checkpoint.".to_owned()),
        Stage::Running => {}
    }
    if let (false, Some(silence)) = (liveness.alive, liveness.seconds_since_tick) {
        put(Condition::Ill, format!("its training loop has not turned for {}.", time(silence)));
    }
    if readiness.unsaved {
        let why = "checkpoints cannot be written; what is learnt meanwhile would be learnt again after a restart.";
        put(Condition::Ill, why.to_owned());
    }
    if status.lifecycle.stage == Stage::Running && !readiness.missing.is_empty() {
        put(Condition::Changing, format!("it is not ready yet: {}.", readiness.missing.join(", ")));
    }
}

/// A reason of [`crate::exit::Exit::name`], in words.
fn failure(reason: &str) -> &'static str {
    match reason {
        "usage" => "its settings cannot be used",
        "source" => "its log or topic cannot be read",
        "checkpoint" => "there is no checkpoint that it can use, or none could be written",
        "fenced" => "another worker took over",
        "diverged" => "the model diverged",
        "sink" => "a sink refuses, or cannot be reached",
        _ => "something unexpected happened",
    }
}

fn stream(status: &Status, now: f64, remarks: &mut Vec<(Condition, String)>) {
    let Status { run, trainer, lifecycle, .. } = status;
    if lifecycle.stage != Stage::Running {
        return;
    }
    let lag: u64 = run.lag.iter().map(|lag| lag.events).sum();
    let to_catch_up = lag as f64 / run.events_per_second;
    if lag > 0 && run.events_per_second <= 0.5 && run.seconds > LONG_LAG {
        let text = format!("{} records are there, and none is read.", grouped(lag));
        remarks.push((Condition::Watch, text));
    } else if lag > 0 && to_catch_up > LONG_LAG && run.events_per_second > 0.5 {
        let text = format!(
            "it is {} records behind, which takes {} at its speed of {} a second, and longer while more arrive.",
            grouped(lag),
            time(to_catch_up),
            grouped(run.events_per_second.round() as u64)
        );
        remarks.push((Condition::Watch, text));
    }
    if let Some(waiting) = run.freshness.oldest_untrained.map(|since| now - since).filter(|age| *age > LONG_WAIT) {
        remarks.push((Condition::Watch, format!("an event has waited for its batch for {}.", time(waiting))));
    }
    let events = &trainer.events;
    let rejected = events.rejected.total();
    if events.read > 0 && rejected as f64 > MANY_REJECTED * events.read as f64 {
        let text =
            format!("{} of {} records were rejected; the reasons are below.", grouped(rejected), grouped(events.read));
        remarks.push((Condition::Watch, text));
    }
    if events.lost > 0 {
        let text = format!("{} records were gone before they were read.", grouped(events.lost));
        remarks.push((Condition::Watch, text));
    }
}

fn checkpoints(status: &Status, now: f64, remarks: &mut Vec<(Condition, String)>) {
    let figures = &status.run.checkpoints;
    if status.lifecycle.stage != Stage::Running {
        return;
    }
    let saved = figures.newest.as_ref().map_or(0, |newest| newest.events);
    let unsaved = status.trainer.events.read.saturating_sub(saved);
    let age = figures.written_at.map_or(0.0, |at| now - at);
    if unsaved > 0 && age > OLD_CHECKPOINT && status.run.seconds > OLD_CHECKPOINT {
        let text = format!("nothing was saved for {}.", time(age));
        remarks.push((Condition::Watch, text));
    }
}

fn sinks(status: &Status, remarks: &mut Vec<(Condition, String)>) {
    for sink in &status.run.sinks {
        let name = &sink.sink;
        match sink.condition {
            SinkCondition::Sending | SinkCondition::Settled => {}
            SinkCondition::Behind => {
                remarks.push((Condition::Watch, format!("the sink {name} does not keep up; all rows follow.")));
            }
            SinkCondition::Away => {
                remarks.push((Condition::Watch, format!("the sink {name} cannot be reached; all rows follow.")));
            }
            SinkCondition::Refused => {
                let text = format!("the sink {name} refuses what it is sent; the log says why.");
                remarks.push((Condition::Ill, text));
            }
        }
    }
}

fn learning(status: &Status, remarks: &mut Vec<(Condition, String)>) {
    let evaluation = &status.trainer.evaluation;
    if status.trainer.training.loss.is_some_and(|loss| !loss.is_finite()) {
        remarks.push((Condition::Ill, "the loss is no number: the model has diverged.".to_owned()));
    }
    if let (Some(model), Some(popularity)) = (evaluation.model_recent, evaluation.popularity_recent)
        && evaluation.events >= ENOUGH_EVENTS
        && model.hit_rate < popularity.hit_rate
        && status.lifecycle.stage == Stage::Running
    {
        let text = format!(
            "it ranks recent events worse than popularity alone does ({:.3} against {:.3}).",
            model.hit_rate, popularity.hit_rate
        );
        remarks.push((Condition::Watch, text));
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// A count with its thousands apart.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in words.
fn time(seconds: f64) -> String {
    match seconds.max(0.0) {
        seconds if seconds < 10.0 => format!("{seconds:.1} s"),
        seconds if seconds < 120.0 => format!("{seconds:.0} s"),
        seconds if seconds < 7_200.0 => format!("{:.0} minutes", seconds / 60.0),
        seconds if seconds < 172_800.0 => format!("{:.0} hours", seconds / 3_600.0),
        seconds => format!("{:.0} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::metrics::RankMetrics;
    use crate::event::Reason;
    use crate::pipeline::SinkFigures;
    use crate::telemetry::status::{ServedCheckpoint, StreamLag};

    const NOW: f64 = 1e9;

    /// A worker at work, to whom `change` happened.
    fn of(change: impl FnOnce(&mut Status, &mut Liveness, &mut Readiness)) -> Diagnosis {
        let mut status = Status::default();
        status.lifecycle.stage = Stage::Running;
        status.run.events_per_second = 12_345.6;
        status.run.seconds = 3_600.0;
        status.run.checkpoints.written_at = Some(NOW - 12.0);
        status.trainer.events.read = 50_000;
        let mut liveness = Liveness { alive: true, seconds_since_tick: Some(0.1) };
        let mut readiness = Readiness { ready: true, missing: Vec::new(), draining: false, unsaved: false };
        change(&mut status, &mut liveness, &mut readiness);
        diagnose(&status, &liveness, &readiness, NOW)
    }

    #[track_caller]
    fn says(diagnosis: &Diagnosis, condition: Condition, words: &[&str]) {
        assert_eq!(diagnosis.condition, condition, "{diagnosis:?}");
        for word in words {
            assert!(diagnosis.sentence.contains(word), "'{word}': {diagnosis:?}");
        }
        assert!(diagnosis.sentence.ends_with('.') && !diagnosis.sentence.contains(".."), "{diagnosis:?}");
    }

    #[test]
    fn well_says_what_goes_well() {
        let diagnosis = of(|status, _, _| status.run.freshness.read_to_weights.observe(0.2));
        says(
            &diagnosis,
            Condition::Well,
            &["It is well: it learns 12,346 events a second", "in the weights within 0."],
        );
        let diagnosis = of(|status, _, _| status.run.events_per_second = 0.0);
        says(&diagnosis, Condition::Well, &["learnt all there is"]);
        let diagnosis = of(|status, _, _| {
            status.replica = Some(ServedCheckpoint { step: 7, events: 1, items: 1, written_at: NOW - 300.0 });
        });
        says(&diagnosis, Condition::Well, &["step 7", "5 minutes ago"]);
    }

    #[test]
    fn each_trouble_has_its_sentence() {
        use Condition::{Changing, Ill, Watch};
        let check = |condition, words: &[&str], change: &dyn Fn(&mut Status, &mut Liveness, &mut Readiness)| {
            says(&of(|status, liveness, readiness| change(status, liveness, readiness)), condition, words);
        };
        check(Ill, &["It is not well", "gave up, since its log or topic"], &|status, _, _| {
            status.lifecycle.stage = Stage::Failed { reason: "source" };
        });
        check(Ill, &["not turned for 75 s"], &|_, liveness, _| {
            *liveness = Liveness { alive: false, seconds_since_tick: Some(75.0) };
        });
        check(Ill, &["checkpoints cannot be written"], &|_, _, readiness| readiness.unsaved = true);
        check(Changing, &["not ready yet: waiting for the group"], &|_, _, readiness| {
            readiness.missing = vec!["waiting for the group"];
        });
        check(Changing, &["told to stop"], &|status, _, _| status.lifecycle.stage = Stage::Draining);
        check(Changing, &["It is done: 50,000"], &|status, _, _| status.lifecycle.stage = Stage::Done);
        check(Watch, &["1,000,000 records behind", "81 s at its speed"], &|status, _, _| {
            status.run.lag = vec![StreamLag { stream: "a".to_owned(), events: 1_000_000 }];
        });
        check(Watch, &["none is read"], &|status, _, _| {
            status.run.events_per_second = 0.0;
            status.run.lag = vec![StreamLag { stream: "a".to_owned(), events: 3 }];
        });
        check(Watch, &["waited for its batch for 30 s"], &|status, _, _| {
            status.run.freshness.oldest_untrained = Some(NOW - 30.0);
        });
        check(Watch, &["3,000 of 50,000 records were rejected"], &|status, _, _| {
            status.trainer.events.rejected.add(Reason::IdTooLong, 3_000);
        });
        check(Watch, &["nothing was saved for 20 minutes"], &|status, _, _| {
            status.run.checkpoints.written_at = Some(NOW - 1_200.0);
        });
        check(Ill, &["diverged"], &|status, _, _| status.trainer.training.loss = Some(f64::NAN));
        check(Watch, &["worse than popularity", "0.100 against 0.200"], &|status, _, _| {
            let rate = |hit_rate| Some(RankMetrics { hit_rate, ..RankMetrics::default() });
            status.trainer.evaluation.events = 5_000;
            (status.trainer.evaluation.model_recent, status.trainer.evaluation.popularity_recent) =
                (rate(0.1), rate(0.2));
        });
    }

    #[test]
    fn the_worst_comes_first_and_the_rest_follows() {
        let sink = |condition| SinkFigures { condition, ..SinkFigures::new("redis".to_owned()) };
        let diagnosis = of(|status, _, _| {
            status.run.sinks = vec![sink(SinkCondition::Away), sink(SinkCondition::Refused)];
        });
        says(&diagnosis, Condition::Ill, &["redis refuses"]);
        assert_eq!(diagnosis.remarks, ["The sink redis cannot be reached; all rows follow."]);
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.25, 75.0, 600.0, 9e3, 1e6].map(time), ["0.2 s", "75 s", "10 minutes", "2 hours", "12 days"]);
    }
}
