//! Vectors of the instruction sets, for products whose sums have to stay in registers: the three of a tile, and those that rank.
//!
//! Left to the compiler, a block of sums does not: arrays are kept on the stack as soon as a block is larger than half the
//! registers. So the operations are named one by one here ([`SimdVector`]), and what is made of them is written once over
//! them: the products of a tile ([`products`]), how scores compare with targets ([`comparisons`]), and the products of one query with packed
//! vectors ([`super::packed`]).

pub(super) mod comparisons;
pub(super) mod products;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::bf16::to_bf16;
use super::exp::{COEFFICIENTS, HIGHEST, LN_2_HIGH, LN_2_LOW, LOWEST, ROUND};
use super::{LANES, Lanes, multiply_add};
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Wide, Widest};

/// Compiles `$body` for each instruction set: of its vectors, as blocks of sums that fill its registers but for what they are
/// made of. The numbers are rows and vectors of a block of logits, and of a block of gradients.
macro_rules! for_each_vector {
    ($(#[$meta:meta])* $name:ident = $body:ident($($argument:ident: $type:ty),* $(,)?)) => {
        $(#[$meta])*
        #[cfg_attr(
            target_arch = "x86_64",
            expect(unsafe_code, reason = "enters functions compiled for a detected instruction set")
        )]
        pub(in crate::kernel) fn $name(isa: $crate::kernel::Isa, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma")]
                fn avx512_bf16($($argument: $type),*) {
                    $body::<$crate::kernel::simd::Widest<true>, 6, 4, 8, 2>($($argument),*);
                }
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
                fn avx512($($argument: $type),*) {
                    $body::<$crate::kernel::simd::Widest<false>, 6, 4, 8, 2>($($argument),*);
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) {
                    $body::<$crate::kernel::simd::Wide, 6, 2, 6, 2>($($argument),*);
                }
                match isa {
                    // SAFETY: `Kernel::available` offers the variant only where the features were detected.
                    $crate::kernel::Isa::Avx512Bf16 => return unsafe { avx512_bf16($($argument),*) },
                    // SAFETY: as above.
                    $crate::kernel::Isa::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: as above.
                    $crate::kernel::Isa::Avx2 => return unsafe { avx2($($argument),*) },
                    $crate::kernel::Isa::Neon | $crate::kernel::Isa::Plain => {}
                }
            }
            if cfg!(target_arch = "aarch64") && isa == $crate::kernel::Isa::Neon {
                $body::<$crate::kernel::simd::Portable<true>, 6, 1, 6, 1>($($argument),*);
            } else {
                $body::<$crate::kernel::simd::Portable<false>, 2, 1, 2, 1>($($argument),*);
            }
        }
    };
}
pub(super) use for_each_vector;

/// Some single-precision numbers that are worked on by one instruction. What it does to one of them does not depend on how
/// many there are: a product is the same whatever the width.
pub(super) trait SimdVector: Copy {
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

    /// `counts`, one more where `self > other`.
    fn count_above(self, other: Self, counts: Self) -> Self;

    /// `counts`, one more where `self = other`.
    fn count_equal(self, other: Self, counts: Self) -> Self;

    /// A bit for each number, the first one's the lowest: set where it is not below that of `bound`, or one of them is NaN.
    fn not_below(self, bound: Self) -> u32;

    /// A bit for each number, the first one's the lowest: set where it is above that of `bound`, and neither is NaN.
    fn above(self, bound: Self) -> u32;

    /// `self + 1` where the bit of `lanes` is set, and `self` elsewhere. Bits beyond the width are ignored.
    fn one_more(self, lanes: u32) -> Self;

    /// `value` where `self ≥ bound` (or one of these is NaN), and 0 elsewhere.
    fn unless_below(self, bound: Self, value: Self) -> Self;

    /// Whether some number differs from that of `other`.
    fn differs(self, other: Self) -> bool;

    /// 2ⁿ, where n is the integer that stands in the low bits of the fraction.
    fn power_of_two(self) -> Self;

    /// Takes each number's bits as a pair of numbers in bfloat16: `self + a.high·b.high + a.low·b.low`, in this order, each
    /// product added and rounded once. None of the numbers may be below [`SMALLEST`] in size, unless it is 0: then no sum is
    /// so small that instructions differ in what they make of it.
    fn add_pairs(self, a: Self, b: Self) -> Self;

    /// The bits of `low` and of `high` in bfloat16 (0 where below [`SMALLEST`] in size), as pairs.
    fn pairs(low: Self, high: Self) -> Self;

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

/// 2⁻⁵⁰. Products of two numbers in bfloat16 that are no smaller are whole multiples of 2⁻¹¹⁴, and so are their sums.
pub(super) const SMALLEST: f32 = f32::from_bits((127 - 50) << 23);

/// The bits of a number in bfloat16, as the upper half of a number's; 0 where it is below [`SMALLEST`] in size.
#[inline(always)]
fn rounded(number: f32) -> u32 {
    if number.abs() < SMALLEST { 0 } else { u32::from(to_bf16(number)) << 16 }
}

/// The bits of 1.
const ONE: u32 = 0x3f80_0000;

/// What any target can do; on aarch64 the compiler makes it of NEON's instructions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portable<const FMA: bool>(Lanes);

impl<const FMA: bool> SimdVector for Portable<FMA> {
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
    fn add_pairs(mut self, a: Self, b: Self) -> Self {
        for lane in 0..LANES {
            let (a, b) = (a.0[lane].to_bits(), b.0[lane].to_bits());
            let [high, other_high] = [a, b].map(|bits| f32::from_bits(bits & 0xffff_0000));
            let [low, other_low] = [a, b].map(|bits| f32::from_bits(bits << 16));
            // The products are exact, whether they are fused or not.
            let sum = multiply_add::<FMA>(high, other_high, self.0[lane]);
            self.0[lane] = multiply_add::<FMA>(low, other_low, sum);
        }
        self
    }

    #[inline(always)]
    fn pairs(low: Self, high: Self) -> Self {
        let mut pairs = [0.0; LANES];
        for lane in 0..LANES {
            pairs[lane] = f32::from_bits(rounded(low.0[lane]) >> 16 | rounded(high.0[lane]));
        }
        Self(pairs)
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
    fn count_above(self, other: Self, mut counts: Self) -> Self {
        for lane in 0..LANES {
            counts.0[lane] += if self.0[lane] > other.0[lane] { 1.0 } else { 0.0 };
        }
        counts
    }

    #[inline(always)]
    fn count_equal(self, other: Self, mut counts: Self) -> Self {
        for lane in 0..LANES {
            counts.0[lane] += if self.0[lane] == other.0[lane] { 1.0 } else { 0.0 };
        }
        counts
    }

    #[inline(always)]
    fn not_below(self, bound: Self) -> u32 {
        let mut bits = 0;
        for lane in 0..LANES {
            let is_below = self.0[lane] < bound.0[lane];
            bits |= u32::from(!is_below) << lane;
        }
        bits
    }

    #[inline(always)]
    fn above(self, bound: Self) -> u32 {
        let mut bits = 0;
        for lane in 0..LANES {
            bits |= u32::from(self.0[lane] > bound.0[lane]) << lane;
        }
        bits
    }

    #[inline(always)]
    fn one_more(mut self, lanes: u32) -> Self {
        for lane in 0..LANES {
            self.0[lane] += (lanes >> lane & 1) as f32;
        }
        self
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
