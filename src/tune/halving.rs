//! Successive halving: many settings on a little of the log, the best of them on more of it, the last few on all
//! (Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, 2016).

/// A rung: so many contestants on so much of the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rung {
    /// How many settings the rung has room for; the first one, which is always there, beside them.
    pub places: usize,
    /// The share of the log that they are trained on.
    pub share: f64,
}

/// The rungs for `trials` settings, of which one in `eta` goes on each time; the last one has all of the log.
///
/// # Panics
/// Where nothing would ever be left out: `eta` below 2.
pub fn rungs(trials: usize, eta: usize) -> Vec<Rung> {
    assert!(eta >= 2, "fewer than all go on");
    let mut places = vec![trials];
    while let Some(last) = places.last().copied().filter(|last| *last > eta) {
        places.push(last.div_ceil(eta));
    }
    let last = places.len() as i32 - 1;
    let share = |place: usize| (eta as f64).powi(place as i32 - last);
    places.into_iter().enumerate().map(|(place, places)| Rung { places, share: share(place) }).collect()
}

/// Which of `figures` (trial, figure) go on into a rung with so many places: the best, of equals the first, in the order of their
/// numbers; trial 0 is always among them.
pub fn survivors(figures: &[(usize, f64)], places: usize) -> Vec<usize> {
    let mut ranked = figures.to_vec();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut going: Vec<usize> = ranked.iter().take(places).map(|(trial, _)| *trial).collect();
    if !going.contains(&0) && figures.iter().any(|(trial, _)| *trial == 0) {
        going.push(0);
    }
    going.sort_unstable();
    going
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rung_has_a_share_of_the_settings_and_as_much_more_of_the_log() {
        let rung = |places, share| Rung { places, share };
        assert_eq!(rungs(9, 3), [rung(9, 1.0 / 3.0), rung(3, 1.0)]);
        assert_eq!(rungs(10, 2), [rung(10, 0.125), rung(5, 0.25), rung(3, 0.5), rung(2, 1.0)]);
        assert_eq!(rungs(2, 3), [rung(2, 1.0)]);
    }

    #[test]
    fn best_go_on_and_the_first_with_them() {
        let figures = [(0, 0.1), (1, 0.3), (2, 0.2), (3, 0.3), (4, 0.2)];
        assert_eq!(survivors(&figures, 2), [0, 1, 3]);
        assert_eq!(survivors(&figures, 3), [0, 1, 2, 3]);
        assert_eq!(survivors(&figures[1..], 1), [1]);
    }
}
