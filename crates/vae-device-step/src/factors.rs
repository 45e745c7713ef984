//! Adam's factors, which the host computes in float64.

/// Adam's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamOptions {
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

impl AdamOptions {
    /// What the `update`-th update (from 1) multiplies the first moment over the root with, and the second moment with, under its root.
    pub(crate) fn factors(&self, update: u64, learning_rate: f64) -> [f32; 2] {
        let rest = |beta: f64| 1.0 - beta.powf(update as f64);
        let step_size = learning_rate / rest(self.beta_1);
        [step_size as f32, (1.0 / rest(self.beta_2)) as f32]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_update_divides_by_what_the_decay_leaves() {
        let adam = AdamOptions {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-7,
        };
        let [step_size, second_scale] = adam.factors(1, 1e-3);
        assert!((step_size - 1e-2).abs() < 1e-8, "{step_size}");
        assert!((second_scale - 1000.0).abs() < 1e-2, "{second_scale}");
        let [step_size, second_scale] = adam.factors(1_000_000, 1e-3);
        assert_eq!([step_size, second_scale], [1e-3, 1.0]);
    }
}
