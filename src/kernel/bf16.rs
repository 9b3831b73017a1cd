//! bfloat16: the upper half of single precision. Eight significant bits, and the same range.

/// The upper half of a number, rounded to the nearest, ties to even. What is not finite stays what it is.
#[inline(always)]
pub fn to_bf16(number: f32) -> u16 {
    let bits = number.to_bits();
    if number.is_nan() {
        // Rounding might carry a NaN into an infinity.
        return (bits >> 16) as u16 | 0x40;
    }
    let rounding = 0x7fff + ((bits >> 16) & 1);
    (bits.wrapping_add(rounding) >> 16) as u16
}

/// The number whose upper half this is.
#[inline(always)]
pub fn from_bf16(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bf16_keeps_what_is_not_finite() {
        for number in [f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1.0, -2.5] {
            assert_eq!(from_bf16(to_bf16(number)).to_bits(), number.to_bits());
        }
        assert!(from_bf16(to_bf16(f32::NAN)).is_nan() && from_bf16(to_bf16(f32::from_bits(0x7f80_0001))).is_nan());
    }

    proptest! {
        #[test]
        fn bf16_is_the_nearest_of_its_numbers(number in -1e30f32..1e30) {
            let half = to_bf16(number);
            let found = from_bf16(half);
            prop_assert!((found - number).abs() <= number.abs() / 256.0 || number.abs() < 1e-37);
            for other in [half.wrapping_sub(1), half.wrapping_add(1)] {
                let other = from_bf16(other);
                // Beyond the largest there is none.
                let is_nearer = (other - number).abs() < (found - number).abs();
                prop_assert!(!is_nearer, "{other} is nearer than {found}");
            }
            // Rounding twice is rounding once.
            prop_assert_eq!(to_bf16(found), half);
        }
    }
}
