//! Random choices that mean the same on every machine: ChaCha8 streams, one per purpose, and a
//! keyed mixing function for choices that must be found without drawing those before them.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream is for. Two purposes never share a stream, so that, say, another mix leaves the
/// instants of arrival as they were.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// Instants of arrival of an open load.
    Timing,
    /// Which request of the mix an arrival sends.
    Mix,
    /// Think times of a closed load's users.
    Think,
    /// Which row of a dataset a request sends.
    Rows,
    /// Which requests ask for their trace to be recorded.
    Sampling,
    /// Trace and span ids.
    Traces,
    /// What templates draw.
    Payload,
    /// Draws of a bootstrap.
    Noise,
}

impl Purpose {
    /// Part of the key: these bytes are the format, and must not change.
    fn tag(self) -> [u8; 8] {
        *match self {
            Self::Timing => b"timing\0\0",
            Self::Mix => b"mix\0\0\0\0\0",
            Self::Think => b"think\0\0\0",
            Self::Rows => b"rows\0\0\0\0",
            Self::Sampling => b"sampling",
            Self::Traces => b"traces\0\0",
            Self::Payload => b"payload\0",
            Self::Noise => b"noise\0\0\0",
        }
    }
}

/// The `index`-th stream of a seed for a purpose.
#[derive(Debug, Clone)]
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    pub(crate) fn new(seed: u64, purpose: Purpose, index: u64) -> Self {
        let mut key = [0_u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&purpose.tag());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(index);
        Self(rng)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A whole number below `bound`, which is not 0. Off uniform by less than `bound / 2^64`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Exponential with mean 1, always finite: `-ln(1 - u)` with `u` in `[0, 1)`.
    pub(crate) fn exponential(&mut self) -> f64 {
        -libm::log(1.0 - unit(self.next_u64()))
    }

    /// Standard normal, by Box and Muller's transform of two uniform numbers.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(2.0 * self.exponential());
        radius * libm::cos(std::f64::consts::TAU * unit(self.next_u64()))
    }

    /// Gamma of this shape, above 0, with mean 1: Marsaglia and Tsang, "A simple method for
    /// generating gamma variables", ACM TOMS 26 (2000); below a shape of 1 with their boost by
    /// `u^(1/shape)`.
    pub(crate) fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = libm::exp(-self.exponential() / shape);
            return self.gamma_above_one(shape + 1.0) * boost / shape;
        }
        self.gamma_above_one(shape) / shape
    }

    fn gamma_above_one(&mut self, shape: f64) -> f64 {
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / libm::sqrt(9.0 * d);
        loop {
            let x = self.normal();
            let root = 1.0 + c * x;
            // ln of a uniform number in (0, 1].
            let ln_u = -self.exponential();
            if root <= 0.0 {
                continue;
            }
            let v = root * root * root;
            if ln_u < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return d * v;
            }
        }
    }
}

/// The top 53 bits as a number in `[0, 1)`.
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// A bijection of 64 bits in which every input bit reaches every output bit (the finaliser of
/// SplitMix64).
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A permutation of `0..size` chosen by `key`, found for one place in constant time: a Feistel
/// network over the next power of four, walked until it falls inside.
pub(crate) fn permute(place: u64, size: u64, key: u64) -> u64 {
    debug_assert!(place < size);
    // Two bits a half at least: smaller networks know too few permutations.
    let half_bits = (64 - size.saturating_sub(1).leading_zeros())
        .div_ceil(2)
        .max(2);
    let mask = (1_u64 << half_bits) - 1;
    let mut value = place;
    loop {
        let (mut left, mut right) = (value >> half_bits, value & mask);
        for round in 0..6_u64 {
            let key = key.wrapping_add(round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            (left, right) = (right, left ^ (mix(right ^ mix(key)) & mask));
        }
        value = (left << half_bits) | right;
        if value < size {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn streams_are_pinned() {
        let mut timing = Stream::new(42, Purpose::Timing, 0);
        let mut other = Stream::new(42, Purpose::Timing, 1);
        let mut mix = Stream::new(42, Purpose::Mix, 0);
        let first = timing.next_u64();
        assert_eq!(first, 12_825_558_524_723_457_232);
        assert_ne!(first, other.next_u64());
        assert_ne!(first, mix.next_u64());
    }

    proptest! {
        #[test]
        fn permutations_meet_every_place_once(size in 1_u64..300, key in any::<u64>()) {
            let seen: BTreeSet<u64> = (0..size).map(|place| permute(place, size, key)).collect();
            prop_assert_eq!(seen.len() as u64, size);
            prop_assert!(seen.iter().all(|value| *value < size));
        }
    }

    #[test]
    fn keys_permute_differently_and_evenly() {
        // Each of 10 values comes first about equally often over 10,000 keys (expected 1,000, deviation 30).
        let mut first = [0_u32; 10];
        for key in 0..10_000 {
            first[permute(0, 10, mix(key)) as usize] += 1;
        }
        assert!(
            first.iter().all(|count| (850..1150).contains(count)),
            "{first:?}"
        );
    }
}
