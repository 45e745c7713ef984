//! Widths at which models of different depth have equal parameters or equal arithmetic.

use crate::experiment::model::ModelConfig;
use clap::ValueEnum;

/// What is held equal between the depths of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Matching {
    /// The width: deeper models have more parameters and more arithmetic
    #[default]
    None,
    /// The number of parameters
    Parameters,
    /// Multiply-accumulates per image
    Macs,
}

/// Steps of width in 1: fine enough to reach every rounding of the widest stage up to the largest width.
const STEPS: u32 = 10_000;

/// The largest width that the settings allow.
const LARGEST_WIDTH: u32 = 16;

impl Matching {
    /// What is held equal, as the tables name it; none where nothing is.
    pub fn quantity(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Parameters => Some("parameters"),
            Self::Macs => Some("multiply-accumulates"),
        }
    }

    /// What is held equal, of one model; none where nothing is.
    pub fn cost(self, config: &ModelConfig) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Parameters => Some(config.num_params()),
            Self::Macs => Some(config.cost().multiply_accumulates()),
        }
    }
}

/// The width, a multiple of 1/10000 from there to 16, whose cost is nearest to `target`.
///
/// `cost` must not fall as the width grows. Channels are whole numbers, so the nearest is rarely equal.
pub fn matched_width(target: u64, cost: impl Fn(f64) -> u64) -> f64 {
    let width = |steps: u32| f64::from(steps) / f64::from(STEPS);
    let (mut low, mut high) = (1, LARGEST_WIDTH * STEPS);
    // The least number of steps that reaches the target, or the largest there is.
    while low < high {
        let middle = low + (high - low) / 2;
        if cost(width(middle)) < target {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let above = width(low);
    let below = width((low - 1).max(1));
    if cost(above).abs_diff(target) < cost(below).abs_diff(target) {
        above
    } else {
        below
    }
}

/// How far a cost lies from what it should be, as a share: 0.01 is one percent more.
pub fn mismatch(cost: u64, target: u64) -> f64 {
    (cost as f64 - target as f64) / target as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use vae_core::{Depth, Shortcuts, VaeConfig};

    fn config(depth: Depth, width: f64, shortcuts: Shortcuts) -> ModelConfig {
        VaeConfig::preset(depth)
            .with_width_multiplier(width)
            .with_latent_dim(32)
            .with_shortcuts(shortcuts)
            .into()
    }

    #[test]
    fn the_nearest_step_is_found_by_bisection_as_by_trying_all() {
        let cost = |width: f64| (1000.0 * width * width).floor() as u64;
        for target in [1, 17, 250, 999, 5000] {
            let found = matched_width(target, cost);
            let nearest = (1..=LARGEST_WIDTH * STEPS)
                .map(|steps| cost(f64::from(steps) / f64::from(STEPS)).abs_diff(target))
                .min();
            assert_eq!(Some(cost(found).abs_diff(target)), nearest, "{target}");
        }
        assert_eq!(matched_width(u64::MAX, cost), f64::from(LARGEST_WIDTH));
    }

    #[test]
    fn every_depth_reaches_the_shallowest_ones_cost_within_two_percent() {
        for matching in [Matching::Parameters, Matching::Macs] {
            let cost = |config: &ModelConfig| matching.cost(config).expect("something is matched");
            let target = cost(&config(Depth::Depth28, 0.5, Shortcuts::Residual));
            for depth in Depth::ALL {
                for shortcuts in [Shortcuts::Residual, Shortcuts::Plain] {
                    let width =
                        matched_width(target, |width| cost(&config(depth, width, shortcuts)));
                    let found = cost(&config(depth, width, shortcuts));
                    let mismatch = mismatch(found, target);
                    assert!(mismatch.abs() < 0.02, "{depth:?} {width}: {mismatch}");
                    if depth != Depth::Depth28 && shortcuts == Shortcuts::Residual {
                        assert!(width < 0.5, "{depth:?} is no narrower: {width}");
                    }
                }
            }
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn parameters_counted_from_the_configuration_are_those_of_the_model() {
        use crate::experiment::model::Model;
        use burn::module::Module;
        use burn::tensor::Device;
        for depth in Depth::ALL {
            for width in [0.02, 0.0625, 0.11] {
                for shortcuts in [Shortcuts::Residual, Shortcuts::Plain] {
                    let config = config(depth, width, shortcuts);
                    let of_the_model = Model::new(&config, &Device::flex()).num_params() as u64;
                    assert_eq!(config.num_params(), of_the_model, "{config:?}");
                }
            }
        }
    }

    #[test]
    fn a_mismatch_is_a_share_of_the_target() {
        assert_eq!(mismatch(101, 100), 0.01);
        assert_eq!(mismatch(75, 100), -0.25);
    }
}
