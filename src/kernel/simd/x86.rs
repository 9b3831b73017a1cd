//! The vectors of x86-64. Each is used in functions only that are compiled for its instruction set.

#![expect(
    unsafe_code,
    reason = "intrinsics need their instruction set, which whoever makes such a vector has detected"
)]

use std::arch::x86_64::{
    __m256, __m512, _CMP_LT_OQ, _CMP_NEQ_UQ, _CMP_NLT_UQ, _mm256_add_epi32, _mm256_add_ps, _mm256_andnot_ps,
    _mm256_castps_si256, _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps,
    _mm256_min_ps, _mm256_movemask_ps, _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32,
    _mm256_storeu_ps, _mm256_sub_ps, _mm512_add_epi32, _mm512_add_ps, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_cmp_ps_mask, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_maskz_mov_ps, _mm512_max_ps, _mm512_min_ps,
    _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
};

use super::{ONE, Vector};

/// Eight numbers: AVX2 with FMA.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernel) struct Wide(__m256);

/// Sixteen numbers: AVX-512.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernel) struct Widest(__m512);

/// Operations of two vectors.
macro_rules! binary {
    ($($name:ident = $intrinsic:ident),*) => {
        $(
            #[inline(always)]
            fn $name(self, other: Self) -> Self {
                // SAFETY: the instruction set is there wherever this vector is used.
                Self(unsafe { $intrinsic(self.0, other.0) })
            }
        )*
    };
}

/// What both have alike.
macro_rules! common {
    (
        $width:literal; $splat:ident, $load:ident, $store:ident, $add_product:ident
    ) => {
        const WIDTH: usize = $width;

        #[inline(always)]
        fn splat(number: f32) -> Self {
            // SAFETY: the instruction set is there wherever this vector is used.
            Self(unsafe { $splat(number) })
        }

        #[inline(always)]
        fn load(numbers: &[f32]) -> Self {
            let numbers: &[f32; $width] = numbers.first_chunk().expect("a whole vector");
            // SAFETY: as above; and there are as many numbers as are read.
            Self(unsafe { $load(numbers.as_ptr()) })
        }

        #[inline(always)]
        fn store(self, numbers: &mut [f32]) {
            let numbers: &mut [f32; $width] = numbers.first_chunk_mut().expect("a whole vector");
            // SAFETY: as above; and there are as many numbers as are written.
            unsafe { $store(numbers.as_mut_ptr(), self.0) };
        }

        #[inline(always)]
        fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: the instruction set is there wherever this vector is used.
            Self(unsafe { $add_product(a.0, b.0, self.0) })
        }
    };
}

impl Vector for Wide {
    common!(8; _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps);
    binary!(
        plus = _mm256_add_ps,
        minus = _mm256_sub_ps,
        times = _mm256_mul_ps,
        or_larger = _mm256_max_ps,
        or_smaller = _mm256_min_ps
    );

    #[inline(always)]
    fn unless_below(self, bound: Self, value: Self) -> Self {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn chosen(numbers: __m256, bound: __m256, value: __m256) -> __m256 {
            _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(numbers, bound), value)
        }
        // SAFETY: the instruction set is there wherever this vector is used.
        Self(unsafe { chosen(self.0, bound.0, value.0) })
    }

    #[inline(always)]
    fn differs(self, other: Self) -> bool {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn differences(a: __m256, b: __m256) -> i32 {
            _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NEQ_UQ>(a, b))
        }
        // SAFETY: the instruction set is there wherever this vector is used.
        let differences = unsafe { differences(self.0, other.0) };
        differences != 0
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn power(numbers: __m256) -> __m256 {
            let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(numbers));
            _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(ONE as i32)))
        }
        // SAFETY: the instruction set is there wherever this vector is used.
        Self(unsafe { power(self.0) })
    }
}

impl Vector for Widest {
    common!(16; _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps);
    binary!(
        plus = _mm512_add_ps,
        minus = _mm512_sub_ps,
        times = _mm512_mul_ps,
        or_larger = _mm512_max_ps,
        or_smaller = _mm512_min_ps
    );

    #[inline(always)]
    fn unless_below(self, bound: Self, value: Self) -> Self {
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn chosen(numbers: __m512, bound: __m512, value: __m512) -> __m512 {
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(numbers, bound), value)
        }
        // SAFETY: the instruction set is there wherever this vector is used.
        Self(unsafe { chosen(self.0, bound.0, value.0) })
    }

    #[inline(always)]
    fn differs(self, other: Self) -> bool {
        // SAFETY: the instruction set is there wherever this vector is used.
        let differences = unsafe { _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(self.0, other.0) };
        differences != 0
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn power(numbers: __m512) -> __m512 {
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(numbers));
            _mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(ONE as i32)))
        }
        // SAFETY: the instruction set is there wherever this vector is used.
        Self(unsafe { power(self.0) })
    }
}
