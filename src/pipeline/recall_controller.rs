//! How far rows may move before they are sent: as far as the lists that are made of what was published stay those of the live model.
//!
//! About once a second a sample is ranked twice, by the live embeddings and by the published ones. Where more of the lists is lost
//! than `recall` allows, the threshold comes down; where less is, it rises. A step depends on the miss in a straight line, so that
//! the noise of a small sample has no tendency of its own.

/// Share of what may be missed that is aimed at: the rest is for the moments before the threshold has followed.
const AIM: f64 = 0.8;
/// The rise where nothing is missed, in powers of e.
const GAIN: f64 = 0.15;
/// Most that the threshold falls by one measurement, in powers of e.
const MOST_FALL: f64 = 0.4;
/// The threshold that it begins with, and its bounds.
const FIRST: f64 = 0.03;
const BOUNDS: [f64; 2] = [1e-5, 1e3];
/// How much a measurement counts against those before it, in what is shown.
const NEWEST_COUNTS: f64 = 0.1;

/// Decides on the threshold of a change filter.
#[derive(Debug, Clone)]
pub struct RecallController {
    /// Share of the lists that may be missed.
    allowed: f64,
    /// Share that was missed, smoothed; `None` before the first measurement.
    missed: Option<f64>,
    threshold: f64,
}

impl RecallController {
    /// A controller that keeps recall at `recall`, below 1.
    pub fn new(recall: f64) -> Self {
        Self { allowed: 1.0 - recall, missed: None, threshold: FIRST }
    }

    /// The threshold of the filter.
    pub fn threshold(&self) -> f32 {
        self.threshold as f32
    }

    /// The recall that was measured lately; `None` before the first measurement.
    pub fn recall(&self) -> Option<f64> {
        self.missed.map(|missed| 1.0 - missed)
    }

    /// Takes a measurement: of `compared` places of the live lists, `kept` were in those of what was published.
    pub fn measured(&mut self, compared: u64, kept: u64) {
        if compared == 0 {
            return;
        }
        let missed = 1.0 - kept as f64 / compared as f64;
        self.missed = Some(self.missed.map_or(missed, |before| before + NEWEST_COUNTS * (missed - before)));
        let step = GAIN * (1.0 - missed / (AIM * self.allowed));
        self.threshold = (self.threshold * step.max(-MOST_FALL).exp()).clamp(BOUNDS[0], BOUNDS[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threshold_settles_where_recall_is_a_little_above_what_is_wanted() {
        // What is missed grows with the square of the threshold, and is seen through the noise of 640 places.
        let mut controller = RecallController::new(0.99);
        assert_eq!(controller.recall(), None);
        let (mut state, mut compared, mut kept) = (7_u64, 0, 0);
        for measurement in 0..3_000 {
            let miss = 0.5 * f64::from(controller.threshold()).powi(2);
            let mut missed = 0;
            for _ in 0..640 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                missed += u64::from(((state >> 11) as f64 / (1_u64 << 53) as f64) < miss);
            }
            controller.measured(640, 640 - missed);
            if measurement > 300 {
                (compared, kept) = (compared + 640, kept + 640 - missed);
            }
        }
        let recall = kept as f64 / compared as f64;
        assert!((0.9905..0.994).contains(&recall), "{recall}");
        assert!(controller.recall().is_some_and(|recent| recent > 0.98));
        let before = controller.threshold();
        controller.measured(640, 320);
        assert!(controller.threshold() < 0.7 * before, "a great miss brings it down at once");
        controller.measured(0, 0);
    }
}
