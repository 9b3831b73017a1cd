//! Vectors of the instruction sets, for the three products of a tile, whose sums have to stay in registers.
//!
//! Left to the compiler, a block of sums does not: arrays are kept on the stack as soon as a block is larger than half the
//! registers. So the operations are named one by one here ([`Vector`]), and the products ([`products`]) are written once
//! over them.

pub(super) mod products;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::exp::{COEFFICIENTS, HIGHEST, LN_2_HIGH, LN_2_LOW, LOWEST, ROUND};
use super::{LANES, Lanes, multiply_add};
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Wide, Widest};

/// Some single-precision numbers that are worked on by one instruction. What it does to one of them does not depend on how
/// many there are: a product is the same whatever the width.
pub(super) trait Vector: Copy {
    /// Numbers in it; a divisor of [`LANES`].
    const WIDTH: usize;
    /// The same number everywhere.
    fn splat(number: f32) -> Self;

    /// The first numbers of `numbers`.
    fn load(numbers: &[f32]) -> Self;

    /// Puts them at the beginning of `numbers`.
    fn store(self, numbers: &mut [f32]);

    /// `self + a·b`, rounded once where the instruction set can.
    fn add_product(self, a: Self, b: Self) -> Self;

    /// `self + other`.
    fn plus(self, other: Self) -> Self;

    /// `self − other`.
    fn minus(self, other: Self) -> Self;

    /// `self · other`.
    fn times(self, other: Self) -> Self;

    /// The larger of both, `other` where one of them is NaN.
    fn or_larger(self, other: Self) -> Self;

    /// The smaller of both, `other` where one of them is NaN.
    fn or_smaller(self, other: Self) -> Self;

    /// `value` where `self ≥ bound` (or one of these is NaN), and 0 elsewhere.
    fn unless_below(self, bound: Self, value: Self) -> Self;

    /// Whether some number differs from that of `other`.
    fn differs(self, other: Self) -> bool;

    /// 2ⁿ, where n is the integer that stands in the low bits of the fraction.
    fn power_of_two(self) -> Self;

    /// e^x: [`super::exp::exp`], operation by operation.
    #[inline(always)]
    fn exp(self) -> Self {
        let clamped = Self::splat(HIGHEST).or_smaller(Self::splat(LOWEST).or_larger(self));
        let shifted = Self::splat(ROUND).add_product(clamped, Self::splat(std::f32::consts::LOG2_E));
        let whole = shifted.minus(Self::splat(ROUND));
        let rest = clamped.add_product(whole, Self::splat(-LN_2_HIGH)).add_product(whole, Self::splat(-LN_2_LOW));
        let mut sum = Self::splat(COEFFICIENTS[0]);
        for coefficient in 1..COEFFICIENTS.len() {
            sum = Self::splat(COEFFICIENTS[coefficient]).add_product(sum, rest);
        }
        let fraction = rest.add_product(sum, rest.times(rest)).plus(Self::splat(1.0));
        self.unless_below(Self::splat(LOWEST), fraction.times(shifted.power_of_two()))
    }
}

/// The bits of 1.
const ONE: u32 = 0x3f80_0000;

/// What any target can do; on aarch64 the compiler makes it of NEON's instructions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable<const FMA: bool>(Lanes);

impl<const FMA: bool> Vector for Portable<FMA> {
    const WIDTH: usize = LANES;

    #[inline(always)]
    fn splat(number: f32) -> Self {
        Self([number; LANES])
    }

    #[inline(always)]
    fn load(numbers: &[f32]) -> Self {
        Self(*numbers.first_chunk().expect("a whole vector"))
    }

    #[inline(always)]
    fn store(self, numbers: &mut [f32]) {
        *numbers.first_chunk_mut().expect("a whole vector") = self.0;
    }

    #[inline(always)]
    fn add_product(mut self, a: Self, b: Self) -> Self {
        for lane in 0..LANES {
            self.0[lane] = multiply_add::<FMA>(a.0[lane], b.0[lane], self.0[lane]);
        }
        self
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        self.with(other, |a, b| a - b)
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        self.with(other, |a, b| a * b)
    }

    #[inline(always)]
    fn or_larger(self, other: Self) -> Self {
        self.with(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn or_smaller(self, other: Self) -> Self {
        self.with(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn unless_below(self, bound: Self, value: Self) -> Self {
        let mut out = value.0;
        for lane in 0..LANES {
            out[lane] = if self.0[lane] < bound.0[lane] { 0.0 } else { out[lane] };
        }
        Self(out)
    }

    #[inline(always)]
    fn differs(self, other: Self) -> bool {
        let mut differs = false;
        for lane in 0..LANES {
            differs |= self.0[lane] != other.0[lane];
        }
        differs
    }

    #[inline(always)]
    fn power_of_two(mut self) -> Self {
        for lane in 0..LANES {
            self.0[lane] = f32::from_bits((self.0[lane].to_bits() << 23).wrapping_add(ONE));
        }
        self
    }
}

impl<const FMA: bool> Portable<FMA> {
    /// `operation` on each pair of numbers.
    #[inline(always)]
    fn with(mut self, other: Self, operation: impl Fn(f32, f32) -> f32) -> Self {
        for lane in 0..LANES {
            self.0[lane] = operation(self.0[lane], other.0[lane]);
        }
        self
    }
}
