//! Exponential and logarithm, for a block of lanes (coefficients of Cephes' `expf` and `logf`, Moshier 1989).
//!
//! The exponential is range reduction by ln 2 and a polynomial, relative error below 2e-7 on [-87, 88]; 0 below, so that
//! a masked logit has no weight at all.

use super::{LANES, Lanes, multiply_add};

pub(super) const LOWEST: f32 = -87.0;
pub(super) const HIGHEST: f32 = 88.0;
pub(super) const LN_2_HIGH: f32 = 0.693_359_4;
pub(super) const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Adding and subtracting it rounds a small number to the nearest integer.
pub(super) const ROUND: f32 = 12_582_912.0;
/// Of the polynomial, from the highest power down.
pub(super) const COEFFICIENTS: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];

/// e^x in each lane.
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: Lanes) -> Lanes {
    let mut out = [0.0; LANES];
    for lane in 0..LANES {
        let clamped = x[lane].clamp(LOWEST, HIGHEST);
        let shifted = multiply_add::<FMA>(clamped, std::f32::consts::LOG2_E, ROUND);
        let whole = shifted - ROUND;
        let rest = multiply_add::<FMA>(whole, -LN_2_LOW, multiply_add::<FMA>(whole, -LN_2_HIGH, clamped));
        let mut sum = COEFFICIENTS[0];
        for coefficient in 1..COEFFICIENTS.len() {
            sum = multiply_add::<FMA>(sum, rest, COEFFICIENTS[coefficient]);
        }
        let fraction = multiply_add::<FMA>(sum, rest * rest, rest) + 1.0;
        // The integer stands in the low bits of `shifted`; moved into the exponent it is the power of two.
        let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
        out[lane] = if x[lane] < LOWEST { 0.0 } else { fraction * power };
    }
    out
}

/// ln x in each lane, of positive normal numbers.
#[inline(always)]
pub(super) fn ln<const FMA: bool>(x: Lanes) -> Lanes {
    let mut out = [0.0; LANES];
    for lane in 0..LANES {
        // x = 2^exponent · mantissa, the mantissa in [√½, √2).
        let bits = x[lane].to_bits().wrapping_sub(0x3f35_04f3);
        let exponent = (bits as i32 >> 23) as f32;
        let mantissa = f32::from_bits((bits & 0x007f_ffff).wrapping_add(0x3f35_04f3));
        let rest = mantissa - 1.0;
        let square = rest * rest;
        let mut sum = 7.037_683_6e-2;
        for coefficient in [
            -1.151_461e-1,
            1.167_699_9e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_8e-1,
            2.000_071_5e-1,
            -2.499_999_4e-1,
            3.333_333e-1,
        ] {
            sum = multiply_add::<FMA>(sum, rest, coefficient);
        }
        let tail = multiply_add::<FMA>(exponent, LN_2_LOW, sum * rest * square);
        out[lane] = multiply_add::<FMA>(exponent, LN_2_HIGH, rest + multiply_add::<FMA>(-0.5, square, tail));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_double_precision() {
        for step in 0..200_000 {
            let x = -87.0 + 175.0 * step as f32 / 200_000.0;
            for found in [exp::<true>([x; LANES])[3], exp::<false>([x; LANES])[3]] {
                let truth = f64::from(x).exp();
                assert!((f64::from(found) / truth - 1.0).abs() < 4e-7, "exp({x}) = {found}, not {truth}");
            }
        }
    }

    #[test]
    fn the_logarithm_agrees_with_double_precision() {
        for step in 0..200_000 {
            let x = (-80.0f64 + 160.0 * f64::from(step) / 200_000.0).exp() as f32;
            for found in [ln::<true>([x; LANES])[3], ln::<false>([x; LANES])[3]] {
                let truth = f64::from(x).ln();
                assert!(
                    (f64::from(found) - truth).abs() < 2e-7 * truth.abs().max(1.0),
                    "ln {x} = {found}, not {truth}"
                );
            }
        }
    }

    #[test]
    fn masked_logits_weigh_nothing() {
        for x in [-87.5, -1e30, f32::NEG_INFINITY] {
            assert_eq!(exp::<false>([x; LANES]), [0.0; LANES]);
        }
        assert_eq!(exp::<false>([0.0; LANES]), [1.0; LANES]);
    }
}
