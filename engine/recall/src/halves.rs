//! Numbers of 16 bits: half the memory of a row, for three digits of precision.
//!
//! Rounding down to them is the `half` crate's. Reading is done here, by a shift and a product that a
//! compiler turns into wide code on any processor and that are exact: the crate asks the processor
//! anew for each few numbers.

/// An IEEE 754 binary16 that is finite.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Half(pub u16);

/// The greatest finite one.
pub const GREATEST: f32 = 65_504.0;

impl Half {
    /// The nearest one to a number of at most [`GREATEST`] either way; what is beyond becomes that.
    pub fn nearest(number: f32) -> Self {
        Self(::half::f16::from_f32(number.clamp(-GREATEST, GREATEST)).to_bits())
    }

    /// The number, exactly.
    #[inline(always)]
    pub fn to_f32(self) -> f32 {
        // 2¹¹²: what the two formats' exponents are apart. Subnormal numbers come out right too.
        const APART: f32 = f32::from_bits((127 + 112) << 23);
        let bits = u32::from(self.0);
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * APART;
        f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_number_reads_as_the_crate_reads_it() {
        for bits in 0..=u16::MAX {
            let theirs = ::half::f16::from_bits(bits);
            if theirs.is_finite() {
                let wide = Half(bits).to_f32();
                assert_eq!(wide.to_bits(), theirs.to_f32().to_bits(), "{bits:#x}");
                assert_eq!(Half::nearest(wide), Half(bits));
            }
        }
        assert_eq!(Half::nearest(1e9).to_f32(), GREATEST);
    }
}
