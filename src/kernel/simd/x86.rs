//! The vectors of x86-64. Each is used in functions only that are compiled for its instruction set.

#![expect(
    unsafe_code,
    reason = "intrinsics need their instruction set, which whoever makes such a vector has detected"
)]

use std::arch::x86_64::{
    __m256, __m256i, __m512, __m512bh, __m512i, _CMP_EQ_OQ, _CMP_GT_OQ, _CMP_LT_OQ, _CMP_NEQ_UQ, _CMP_NLT_UQ,
    _CMP_UNORD_Q, _mm256_add_epi32, _mm256_add_ps, _mm256_and_ps, _mm256_and_si256, _mm256_andnot_ps, _mm256_blendv_ps,
    _mm256_castps_si256, _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cmpeq_epi32, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_max_ps, _mm256_min_ps, _mm256_movemask_ps, _mm256_mul_ps, _mm256_or_si256, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setr_epi32, _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_ps, _mm256_sub_ps,
    _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask,
    _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_add_ps, _mm512_mask_mov_epi32,
    _mm512_maskz_mov_epi32, _mm512_maskz_mov_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_or_si512,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_slli_epi32, _mm512_srli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
};

use super::{ONE, SMALLEST, SimdVector};

/// Eight numbers: AVX2 with FMA.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernel) struct Wide(__m256);

/// Sixteen numbers: AVX-512, with its products in bfloat16 or without.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernel) struct Widest<const BF16: bool>(__m512);

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

impl Wide {
    /// A bit for each number, the first one's the lowest: set where it compares with that of `bound` as the predicate says.
    #[inline(always)]
    fn compared<const PREDICATE: i32>(self, bound: Self) -> u32 {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn bits<const PREDICATE: i32>(numbers: __m256, bound: __m256) -> i32 {
            _mm256_movemask_ps(_mm256_cmp_ps::<PREDICATE>(numbers, bound))
        }
        // SAFETY: the instruction set is there wherever this vector is used.
        let bits = unsafe { bits::<PREDICATE>(self.0, bound.0) };
        bits as u32
    }
}

impl SimdVector for Wide {
    common!(8; _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps);
    binary!(
        plus = _mm256_add_ps,
        minus = _mm256_sub_ps,
        times = _mm256_mul_ps,
        or_larger = _mm256_max_ps,
        or_smaller = _mm256_min_ps
    );

    #[inline(always)]
    fn add_pairs(self, a: Self, b: Self) -> Self {
        #[inline]
        #[target_feature(enable = "avx2,fma")]
        fn products(sums: __m256, a: __m256, b: __m256) -> __m256 {
            let (a, b) = (_mm256_castps_si256(a), _mm256_castps_si256(b));
            let upper = _mm256_set1_epi32(0xffff_0000u32 as i32);
            let (high, other_high) = (_mm256_and_si256(a, upper), _mm256_and_si256(b, upper));
            let (low, other_low) = (_mm256_slli_epi32::<16>(a), _mm256_slli_epi32::<16>(b));
            let sums = _mm256_fmadd_ps(_mm256_castsi256_ps(high), _mm256_castsi256_ps(other_high), sums);
            _mm256_fmadd_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(other_low), sums)
        }
        // SAFETY: the instruction set is there wherever this vector is used.
        Self(unsafe { products(self.0, a.0, b.0) })
    }

    #[inline(always)]
    fn pairs(low: Self, high: Self) -> Self {
        /// [`super::rounded`], number by number.
        #[inline]
        #[target_feature(enable = "avx2,fma")]
        fn rounded(numbers: __m256) -> __m256i {
            let bits = _mm256_castps_si256(numbers);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let nearest = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let size = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fff_ffff));
            let is_small = _mm256_cmp_ps::<_CMP_LT_OQ>(_mm256_castsi256_ps(size), _mm256_set1_ps(SMALLEST));
            let is_nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(numbers, numbers);
            let kept = _mm256_andnot_ps(is_small, _mm256_castsi256_ps(nearest));
            let nan = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
            let all = _mm256_castps_si256(_mm256_blendv_ps(kept, _mm256_castsi256_ps(nan), is_nan));
            _mm256_and_si256(all, _mm256_set1_epi32(0xffff_0000u32 as i32))
        }
        #[inline]
        #[target_feature(enable = "avx2,fma")]
        fn paired(low: __m256, high: __m256) -> __m256 {
            _mm256_castsi256_ps(_mm256_or_si256(_mm256_srli_epi32::<16>(rounded(low)), rounded(high)))
        }
        // SAFETY: the instruction set is there wherever this vector is used.
        Self(unsafe { paired(low.0, high.0) })
    }

    #[inline(always)]
    fn count_above(self, other: Self, counts: Self) -> Self {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn counted(numbers: __m256, other: __m256, counts: __m256) -> __m256 {
            let is_above = _mm256_cmp_ps::<_CMP_GT_OQ>(numbers, other);
            _mm256_add_ps(counts, _mm256_and_ps(is_above, _mm256_set1_ps(1.0)))
        }
        // SAFETY: the instruction set is there wherever this vector is used.
        Self(unsafe { counted(self.0, other.0, counts.0) })
    }

    #[inline(always)]
    fn count_equal(self, other: Self, counts: Self) -> Self {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn counted(numbers: __m256, other: __m256, counts: __m256) -> __m256 {
            let is_equal = _mm256_cmp_ps::<_CMP_EQ_OQ>(numbers, other);
            _mm256_add_ps(counts, _mm256_and_ps(is_equal, _mm256_set1_ps(1.0)))
        }
        // SAFETY: the instruction set is there wherever this vector is used.
        Self(unsafe { counted(self.0, other.0, counts.0) })
    }

    #[inline(always)]
    fn not_below(self, bound: Self) -> u32 {
        self.compared::<_CMP_NLT_UQ>(bound)
    }

    #[inline(always)]
    fn above(self, bound: Self) -> u32 {
        self.compared::<_CMP_GT_OQ>(bound)
    }

    #[inline(always)]
    fn one_more(self, lanes: u32) -> Self {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn added(numbers: __m256, lanes: u32) -> __m256 {
            let bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let is_set = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(lanes as i32), bits), bits);
            _mm256_add_ps(numbers, _mm256_and_ps(_mm256_castsi256_ps(is_set), _mm256_set1_ps(1.0)))
        }
        // SAFETY: the instruction set is there wherever this vector is used.
        Self(unsafe { added(self.0, lanes) })
    }

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

impl<const BF16: bool> SimdVector for Widest<BF16> {
    common!(16; _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps);
    binary!(
        plus = _mm512_add_ps,
        minus = _mm512_sub_ps,
        times = _mm512_mul_ps,
        or_larger = _mm512_max_ps,
        or_smaller = _mm512_min_ps
    );

    #[inline(always)]
    fn add_pairs(self, a: Self, b: Self) -> Self {
        #[inline]
        #[target_feature(enable = "avx512f,avx512bf16")]
        fn bf16_products(sums: __m512, a: __m512, b: __m512) -> __m512 {
            // SAFETY: both are 64 bytes, any of which are numbers.
            let a = unsafe { std::mem::transmute::<__m512, __m512bh>(a) };
            // SAFETY: as above.
            let b = unsafe { std::mem::transmute::<__m512, __m512bh>(b) };
            _mm512_dpbf16_ps(sums, a, b)
        }
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn products(sums: __m512, a: __m512, b: __m512) -> __m512 {
            let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
            let upper = _mm512_set1_epi32(0xffff_0000u32 as i32);
            let (high, other_high) = (_mm512_and_si512(a, upper), _mm512_and_si512(b, upper));
            let (low, other_low) = (_mm512_slli_epi32::<16>(a), _mm512_slli_epi32::<16>(b));
            let sums = _mm512_fmadd_ps(_mm512_castsi512_ps(high), _mm512_castsi512_ps(other_high), sums);
            _mm512_fmadd_ps(_mm512_castsi512_ps(low), _mm512_castsi512_ps(other_low), sums)
        }
        if BF16 {
            // SAFETY: such a vector is made where there are these products.
            return Self(unsafe { bf16_products(self.0, a.0, b.0) });
        }
        // SAFETY: the instruction set is there wherever this vector is used.
        Self(unsafe { products(self.0, a.0, b.0) })
    }

    #[inline(always)]
    fn pairs(low: Self, high: Self) -> Self {
        /// [`super::rounded`], number by number.
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn rounded(numbers: __m512) -> __m512i {
            let bits = _mm512_castps_si512(numbers);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let nearest = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let size = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fff_ffff));
            let is_large = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(_mm512_castsi512_ps(size), _mm512_set1_ps(SMALLEST));
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(numbers, numbers);
            let nan = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
            let all = _mm512_mask_mov_epi32(_mm512_maskz_mov_epi32(is_large, nearest), is_nan, nan);
            _mm512_and_si512(all, _mm512_set1_epi32(0xffff_0000u32 as i32))
        }
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn paired(low: __m512, high: __m512) -> __m512 {
            _mm512_castsi512_ps(_mm512_or_si512(_mm512_srli_epi32::<16>(rounded(low)), rounded(high)))
        }
        // SAFETY: the instruction set is there wherever this vector is used.
        Self(unsafe { paired(low.0, high.0) })
    }

    #[inline(always)]
    fn count_above(self, other: Self, counts: Self) -> Self {
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn counted(numbers: __m512, other: __m512, counts: __m512) -> __m512 {
            let is_above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(numbers, other);
            _mm512_mask_add_ps(counts, is_above, counts, _mm512_set1_ps(1.0))
        }
        // SAFETY: the instruction set is there wherever this vector is used.
        Self(unsafe { counted(self.0, other.0, counts.0) })
    }

    #[inline(always)]
    fn count_equal(self, other: Self, counts: Self) -> Self {
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn counted(numbers: __m512, other: __m512, counts: __m512) -> __m512 {
            let is_equal = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(numbers, other);
            _mm512_mask_add_ps(counts, is_equal, counts, _mm512_set1_ps(1.0))
        }
        // SAFETY: the instruction set is there wherever this vector is used.
        Self(unsafe { counted(self.0, other.0, counts.0) })
    }

    #[inline(always)]
    fn not_below(self, bound: Self) -> u32 {
        // SAFETY: the instruction set is there wherever this vector is used.
        u32::from(unsafe { _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(self.0, bound.0) })
    }

    #[inline(always)]
    fn above(self, bound: Self) -> u32 {
        // SAFETY: the instruction set is there wherever this vector is used.
        u32::from(unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, bound.0) })
    }

    #[inline(always)]
    fn one_more(self, lanes: u32) -> Self {
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn added(numbers: __m512, lanes: u32) -> __m512 {
            _mm512_mask_add_ps(numbers, lanes as u16, numbers, _mm512_set1_ps(1.0))
        }
        // SAFETY: the instruction set is there wherever this vector is used.
        Self(unsafe { added(self.0, lanes) })
    }

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
