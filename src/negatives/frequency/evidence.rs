//! What tells half-lives apart: how well each predicted the events, and how often it had their items at the top of a list.

/// Half-life of what an event counts, in events.
const MEMORY: f64 = 20_000.0;
/// What a hit more counts, in nats, as far as it is no matter of chance.
const HIT: f64 = 5.0;
/// By so many nats an event a long memory that others may overrule has to be likelier than each half-life by itself: with more memories it also
/// has more ways to be right by chance.
const AHEAD: f64 = 0.3;
/// So many standard deviations of a difference in hits are a matter of chance.
const DEVIATIONS: f64 = 1.0;

/// Discounted sums of what speaks for each half-life.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HalfLifeEvidence {
    /// By half-life: the sums of the log-likelihoods, in nats; then of the hits; at last of the events, and of the log-likelihoods of
    /// the overruled memory. In one vector, as it is saved.
    sums: Vec<f64>,
}

/// What an event says of one half-life.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prediction {
    /// log of the probability that it gave the event's item, in nats.
    pub log_likelihood: f64,
    /// Whether it had the item at the top of the list.
    pub is_hit: bool,
}

impl HalfLifeEvidence {
    /// None yet, of `n` half-lives.
    pub(super) fn new(n: usize) -> Self {
        Self { sums: vec![0.0; 2 * n + 2] }
    }

    /// Number of half-lives.
    pub(super) fn len(&self) -> usize {
        self.sums.len() / 2 - 1
    }

    /// All sums, for a checkpoint.
    pub(super) fn sums(&self) -> &[f64] {
        &self.sums
    }

    /// Takes back sums that were saved; `None` where they are of another number of half-lives, or no numbers.
    pub(super) fn restore(&mut self, sums: &[f64]) -> Option<()> {
        let is_sound = sums.len() == self.sums.len() && sums.iter().all(|sum| sum.is_finite());
        is_sound.then(|| self.sums.copy_from_slice(sums))
    }

    /// Adds what an event says of each half-life, an event that stands for `pace` events of a group; to the overruled memory its
    /// log-likelihood is `overruled`.
    pub(super) fn add(&mut self, pace: f64, predictions: impl Iterator<Item = Prediction>, overruled: f64) {
        let (discount, n) = ((-pace / MEMORY).exp2(), self.len());
        self.sums.iter_mut().for_each(|sum| *sum *= discount);
        for (place, Prediction { log_likelihood, is_hit }) in predictions.enumerate() {
            self.sums[place] += log_likelihood;
            self.sums[n + place] += f64::from(u8::from(is_hit));
        }
        self.sums[2 * n] += 1.0;
        self.sums[2 * n + 1] += overruled;
    }

    /// Adds what others have summed up over the same stretch of the stream.
    pub(super) fn add_sums(&mut self, sums: &[f64]) {
        self.sums.iter_mut().zip(sums).for_each(|(sum, more)| *sum += more);
    }

    /// Writes the share of each half-life: `s_h ∝ exp(L_h + 5·d_h)`, with the log-likelihood L and the lead d in hits over the
    /// likeliest half-life, or the lag behind it, less a standard deviation. That is of two independent samples, which is
    /// more than the hits of the same events differ by chance: among half-lives that are equally good, likelihood decides.
    ///
    /// Returns whether the overruled memory is ahead of all of them.
    pub(super) fn shares(&self, shares: &mut [f64]) -> bool {
        let n = self.len();
        let (likelihoods, hits, events) = (&self.sums[..n], &self.sums[n..2 * n], self.sums[2 * n].max(1.0));
        let likeliest = (0..n).fold(0, |best, place| if likelihoods[place] > likelihoods[best] { place } else { best });
        let rate = hits[likeliest] / events;
        let chance = DEVIATIONS * (2.0 * events * rate * (1.0 - rate).max(0.0)).sqrt();
        let lead = |place: usize| {
            let lead = hits[place] - hits[likeliest];
            lead.signum() * (lead.abs() - chance).max(0.0)
        };
        let evidence = |place: usize| likelihoods[place] + HIT * lead(place);
        let best = (0..n).map(evidence).fold(f64::NEG_INFINITY, f64::max);
        shares.iter_mut().enumerate().for_each(|(place, share)| *share = (evidence(place) - best).exp());
        let sum: f64 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share /= sum);
        self.sums[2 * n + 1] - AHEAD * self.sums[2 * n] > best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(n_events: usize, predictions: impl Fn(usize) -> [(f64, bool); 2]) -> [f64; 2] {
        let mut evidence = HalfLifeEvidence::new(2);
        for event in 0..n_events {
            let of = |(log_likelihood, is_hit)| Prediction { log_likelihood, is_hit };
            evidence.add(1.0, predictions(event).into_iter().map(of), -6.0);
        }
        let mut restored = HalfLifeEvidence::new(2);
        restored.restore(evidence.sums()).expect("the same number");
        assert_eq!(restored, evidence);
        let mut shares = [0.0; 2];
        evidence.shares(&mut shares);
        shares
    }

    #[test]
    fn likelihood_decides_where_hits_are_a_matter_of_chance() {
        // Three hits more of a thousand events.
        let found = shares(1000, |event| [(-5.0, event % 3 == 0), (-5.05, event % 3 == 0 || event < 4)]);
        assert!(found[0] > 0.999, "{found:?}");
    }

    #[test]
    fn overruled_memory_has_to_be_ahead_of_the_best_half_life() {
        for (log_likelihood, is_ahead) in [(-4.6, true), (-4.8, false), (-5.5, false)] {
            let mut evidence = HalfLifeEvidence::new(2);
            for _ in 0..1000 {
                let of = |log_likelihood| Prediction { log_likelihood, is_hit: false };
                evidence.add(1.0, [-5.0, -5.2].into_iter().map(of), log_likelihood);
            }
            assert_eq!(evidence.shares(&mut [0.0; 2]), is_ahead, "{log_likelihood}");
        }
        assert!(!HalfLifeEvidence::new(2).shares(&mut [0.0; 2]));
    }

    #[test]
    fn hits_decide_where_there_are_many_more() {
        let found = shares(1000, |event| [(-5.0, event % 3 == 0), (-5.05, event % 2 == 0)]);
        assert!(found[1] > 0.999, "{found:?}");
        assert_eq!(shares(0, |_| unreachable!()), [0.5, 0.5]);
        assert!(
            HalfLifeEvidence::new(2).restore(&[0.0; 5]).is_none()
                && HalfLifeEvidence::new(1).restore(&[f64::NAN; 4]).is_none()
        );
    }
}
