//! What happens to one row of a step once its sums are known: the gates, the state after, and the way back.
//!
//! Element by element, without branches or calls, so that it is compiled to vectors. Names are those of [`super`].

/// Turns the sums that n, r, z and u are made of (4·dim) into n, r, z and u, and gives the state after.
pub(crate) fn cell(gates: &mut [f32], before: &[f32], state: &mut [f32]) {
    let dim = before.len();
    let (candidate, rest) = gates.split_at_mut(dim);
    let (both, of_state) = rest.split_at_mut(2 * dim);
    both.iter_mut().for_each(|gate| *gate = sigmoid(*gate));
    let (reset, update) = both.split_at(dim);
    for ((candidate, reset), of_state) in candidate.iter_mut().zip(reset).zip(&*of_state) {
        *candidate = tanh(*candidate + reset * of_state);
    }
    for (((state, before), candidate), update) in state.iter_mut().zip(before).zip(&*candidate).zip(update) {
        *state = candidate + update * (before - candidate);
    }
}

/// Turns n, r, z and u into the gradients of the sums that they are made of, given `gradient` and `carried`, which
/// together are that of the state after; leaves in `carried` that of the state before, without what goes through U.
pub(crate) fn cell_backward(gates: &mut [f32], before: &[f32], gradient: &[f32], carried: &mut [f32]) {
    let dim = before.len();
    // Cut to length before the loop, so that nothing inside it is checked.
    let (candidate, rest) = gates.split_at_mut(dim);
    let (reset, rest) = rest.split_at_mut(dim);
    let (update, of_state) = rest.split_at_mut(dim);
    let (of_state, gradient, carried) = (&mut of_state[..dim], &gradient[..dim], &mut carried[..dim]);
    for k in 0..dim {
        let (n, r, z, u) = (candidate[k], reset[k], update[k], of_state[k]);
        let whole = gradient[k] + carried[k];
        carried[k] = whole * z;
        let of_candidate = whole * (1.0 - z) * (1.0 - n * n);
        candidate[k] = of_candidate;
        reset[k] = of_candidate * u * r * (1.0 - r);
        update[k] = whole * (before[k] - n) * z * (1.0 - z);
        of_state[k] = of_candidate * r;
    }
}

/// 1/(1 + e^-x), of any x without overflow.
fn sigmoid(x: f32) -> f32 {
    let power = exp_of_minus(x.abs());
    let share = 1.0 / (1.0 + power);
    if x < 0.0 { power * share } else { share }
}

/// The hyperbolic tangent, to an absolute error of 1e-7.
fn tanh(x: f32) -> f32 {
    let power = exp_of_minus(2.0 * x.abs());
    ((1.0 - power) / (1.0 + power)).copysign(x)
}

/// e^-x for x ≥ 0, e^-87 beyond 87 (range reduction by ln 2, coefficients of Cephes' `expf`, Moshier 1989). Without a
/// branch or a call, so that loops over it are compiled to vectors; and the same bytes whatever the system's library.
fn exp_of_minus(x: f32) -> f32 {
    /// Adding and subtracting it rounds a small number to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    // Not `min`, which would turn NaN into 87.
    let x = if x > 87.0 { -87.0 } else { -x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = (x - whole * 0.693_359_4) + whole * 2.121_944_4e-4;
    let mut sum = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        sum = sum * rest + coefficient;
    }
    let fraction = sum * (rest * rest) + rest + 1.0;
    // The integer stands in the low bits of `shifted`; moved into the exponent it is the power of two.
    fraction * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_hold_at_the_ends_of_the_numbers() {
        for x in (-4000..4000).map(|step| step as f32 / 40.0).chain([f32::MIN, f32::MAX, f32::INFINITY, 1e-30, -0.0]) {
            let wide = f64::from(x);
            assert!((f64::from(sigmoid(x)) - 1.0 / (1.0 + (-wide).exp())).abs() < 1e-7, "{x}");
            assert!((f64::from(tanh(x)) - wide.tanh()).abs() < 2e-7, "{x}");
        }
        // Small shares keep their digits: their logarithm may be asked for.
        assert!((f64::from(sigmoid(-30.0)) / (-30.0f64).exp() - 1.0).abs() < 1e-6);
        assert!(sigmoid(f32::NAN).is_nan() && tanh(f32::NAN).is_nan());
    }
}
