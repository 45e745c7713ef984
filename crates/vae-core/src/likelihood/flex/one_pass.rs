//! The likelihoods that are computed in one pass, at some positions of an image.
#![allow(unsafe_code)]

use super::lanes::{LANES, Lane, Pixels};
use super::real::Real;
use super::{logistic, mixture, renormalised_bernoulli};

/// A likelihood that has kernels on flex.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OnePass {
    RenormalisedBernoulli,
    Logistic,
    LogisticMixture { components: usize },
}

impl OnePass {
    /// Channels of the map.
    pub(super) fn map_channels(self, colours: usize) -> usize {
        match self {
            Self::RenormalisedBernoulli => colours,
            Self::Logistic => 2 * colours,
            Self::LogisticMixture { components } => 10 * components,
        }
    }

    /// The negative logarithm of the probability of each position's colours. Where `WITH_GRADIENT`, the parameters,
    /// `[map_channels, LANES]`, become its derivatives.
    ///
    /// A build for any x86-64 processor may assume registers of two doubles only, so the kernels exist a second time for
    /// AVX2 and are chosen at run time. Both times it is the same code without fused or reordered operations, so results
    /// are equal.
    pub(super) fn nll<T: Real, const WITH_GRADIENT: bool>(
        self,
        rows: &mut [Lane<T>],
        pixels: &Pixels<T>,
    ) -> Lane<T> {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2")]
            fn wide<T: Real, const WITH_GRADIENT: bool>(
                likelihood: OnePass,
                rows: &mut [Lane<T>],
                pixels: &Pixels<T>,
            ) -> Lane<T> {
                portable::<T, WITH_GRADIENT>(likelihood, rows, pixels)
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2.
                return unsafe { wide::<T, WITH_GRADIENT>(self, rows, pixels) };
            }
        }
        portable::<T, WITH_GRADIENT>(self, rows, pixels)
    }
}

#[inline(always)]
fn portable<T: Real, const WITH_GRADIENT: bool>(
    likelihood: OnePass,
    rows: &mut [Lane<T>],
    pixels: &Pixels<T>,
) -> Lane<T> {
    let mut nll = [T::ZERO; LANES];
    match likelihood {
        OnePass::RenormalisedBernoulli => {
            renormalised_bernoulli::add_nll::<T, WITH_GRADIENT>(rows, pixels, &mut nll);
        }
        OnePass::Logistic => logistic::add_nll::<T, WITH_GRADIENT>(rows, pixels, &mut nll),
        OnePass::LogisticMixture { components } => {
            mixture::add_nll::<T, WITH_GRADIENT>(rows, components, pixels, &mut nll);
        }
    }
    nll
}
