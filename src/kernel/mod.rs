//! \[5\] The kernel: the arithmetic of a step and of the ranking, slices in and slices out.
//!
//! Everything is written once, as loops over blocks of [`LANES`] numbers, and compiled several times: for AVX-512, for
//! AVX2 with FMA, for NEON, and for whatever the target has anyway. [`Kernel::detect`] picks at run time, so a released
//! binary needs no `target-cpu`. Each output number is made by one fixed sequence of operations, whatever the tile it
//! falls in and whatever the number of threads: same input, same bytes. (A machine without fused multiply-add rounds
//! differently from one that has it; the two agree to single precision, not to the bit.)
//!
//! Small loops go over indices, not over `zip` or `chunks_exact`: what makes and steps those is not marked to be inlined,
//! so with several codegen units it may be compiled elsewhere, and without the instruction set of its caller.
//!
//! This is the only module with `unsafe` code: the calls that enter a function compiled for a detected feature, and
//! hints to fetch memory.

#![expect(
    clippy::needless_range_loop,
    reason = "a lane indexes several arrays at once; and neither a closure nor `zip` is compiled for the detected instruction set unless it is inlined"
)]

pub mod activations;
pub mod aligned;
pub mod bf16;
pub mod contrast;
mod dots;
mod exp;
pub mod frequency;
pub mod packed;
pub mod ranking;
pub mod reference;
pub mod rows;
mod simd;
#[cfg(test)]
mod tests;

/// Width of a block: queries (or items) that are worked on side by side.
pub const LANES: usize = 16;

/// One block of numbers, a lane each.
pub type Lanes = [f32; LANES];

/// The instruction sets that the kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512, and its products of pairs of bfloat16 numbers.
    Avx512Bf16,
    /// x86-64 with AVX-512 (F, VL, BW, DQ: all but the first Xeon Phis).
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// aarch64, all of which has NEON with a fused multiply-add.
    Neon,
    /// Whatever the compilation target guarantees.
    Plain,
}

/// A token: which instruction set to use. Copied into whatever computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    isa: Isa,
    has_bf16_products: bool,
}

impl Kernel {
    /// The best that this machine has.
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// All that this machine has, best first; for tests and benchmarks.
    pub fn available() -> Vec<Self> {
        let mut isas = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                let wide = is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq");
                if wide && is_x86_feature_detected!("avx512bf16") {
                    isas.push(Isa::Avx512Bf16);
                }
                if wide {
                    isas.push(Isa::Avx512);
                }
                isas.push(Isa::Avx2);
            }
        }
        if cfg!(target_arch = "aarch64") {
            isas.push(Isa::Neon);
        }
        isas.push(Isa::Plain);
        isas.into_iter().map(|isa| Self { isa, has_bf16_products: false }).collect()
    }

    /// The same, with the matrix products of contrasts in bfloat16, or not: numbers are rounded to eight significant bits before
    /// they are multiplied, and the products summed up in single precision. Where the machine has no instruction for it, it is
    /// done with others; the results are the same (but for [`Isa::Plain`], which has no fused multiply-add), the time is not.
    #[must_use]
    pub fn with_bf16_products(self, has_bf16_products: bool) -> Self {
        Self { has_bf16_products, ..self }
    }

    /// Whether the machine has an instruction for products of numbers in bfloat16, which does twice as many as one for others.
    pub fn multiplies_bf16(self) -> bool {
        self.isa == Isa::Avx512Bf16
    }

    /// The instruction set in use.
    pub fn isa(self) -> Isa {
        self.isa
    }
}

/// Compiles the generic `$body::<FMA, ROWS>` for each instruction set as `$name(isa, …)`.
macro_rules! for_each_isa {
    ($name:ident = $body:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)?) => {
        #[cfg_attr(
            target_arch = "x86_64",
            expect(unsafe_code, reason = "enters functions compiled for a detected instruction set")
        )]
        fn $name(isa: $crate::kernel::Isa, $($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
                fn avx512($($argument: $type),*) $(-> $result)? {
                    // Twice as many would fit the registers, but are not kept there: at a tenth of the speed.
                    $body::<true, 6>($($argument),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) $(-> $result)? {
                    $body::<true, 6>($($argument),*)
                }
                match isa {
                    // SAFETY: `Kernel::available` offers the variant only where the features were detected.
                    $crate::kernel::Isa::Avx512Bf16 | $crate::kernel::Isa::Avx512 => return unsafe { avx512($($argument),*) },
                    // SAFETY: as above.
                    $crate::kernel::Isa::Avx2 => return unsafe { avx2($($argument),*) },
                    $crate::kernel::Isa::Neon | $crate::kernel::Isa::Plain => {}
                }
            }
            if cfg!(target_arch = "aarch64") && isa == $crate::kernel::Isa::Neon {
                return $body::<true, 6>($($argument),*);
            }
            // Where it is not known to be there, a fused multiply-add would be a library call.
            $body::<false, 4>($($argument),*)
        }
    };
}
use for_each_isa;

/// `a·b + c`, fused where the instruction set has it.
#[inline(always)]
fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Both, cut to the length of the shorter, so that nothing is checked in a loop over that length.
#[inline(always)]
fn cut_alike<'a, A, B>(a: &'a mut [A], b: &'a [B]) -> (&'a mut [A], &'a [B]) {
    let len = if a.len() < b.len() { a.len() } else { b.len() };
    (&mut a[..len], &b[..len])
}
