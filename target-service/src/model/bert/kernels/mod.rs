//! The arithmetic of the encoder, for whatever vector instructions the processor has.
//!
//! [`gemm`] multiplies, [`rows`] does what lies between the multiplications. The executable is built
//! for any processor of its architecture; which instructions there are is found at run time.
//!
//! With `environment` and the mapping of weights, the only place with `unsafe`: functions compiled
//! for instructions are called after these were found, and vectors are loaded from references that
//! are long enough.
#![allow(unsafe_code)]

pub(super) mod gemm;
pub(super) mod rows;

/// The instructions that the processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Level {
    /// The best there is.
    pub(super) fn best() -> Self {
        Self::all()[0]
    }

    /// All there are, the best first.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512vl")
                && std::arch::is_x86_feature_detected!("avx512dq")
                && std::arch::is_x86_feature_detected!("avx512bw")
            {
                all.push(Self::Avx512);
            }
            if std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma")
            {
                all.push(Self::Avx2);
            }
        }
        all.push(Self::Portable);
        all
    }
}

/// Compiles a function of [`rows`] once for each level. The bodies are plain loops, always inlined, so
/// that each copy is vectorised with the instructions of its level.
macro_rules! for_each_level {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*);)*) => {
        impl Level {$(
            $(#[$doc])*
            pub(super) fn $name(self, $($argument: $type),*) {
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
                fn avx512($($argument: $type),*) {
                    rows::$name($($argument),*);
                }
                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $type),*) {
                    rows::$name($($argument),*);
                }
                match self {
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: `Level::all` found the instructions.
                    Self::Avx512 => unsafe { avx512($($argument),*) },
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: as above.
                    Self::Avx2 => unsafe { avx2($($argument),*) },
                    Self::Portable => rows::$name($($argument),*),
                }
            }
        )*}
    };
}

for_each_level! {
    /// Adds `from` to `to`, element by element.
    add(to: &mut [f32], from: &[f32]);
    /// GELU of every element.
    gelu(row: &mut [f32]);
    /// Softmax of `scale` times the row.
    softmax(row: &mut [f32], scale: f32);
    /// Brings a row to mean 0 and variance 1, then scales and shifts it.
    normalise(row: &mut [f32], norm: &super::Norm);
}
