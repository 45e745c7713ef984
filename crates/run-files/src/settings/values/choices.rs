//! Settings that choose among names, spelt the same on the command line, in the environment and in `config.json`.

use crate::choice;

choice! {
    /// A named starting point for the settings.
    Preset {
        /// A small model on the embedded sample, for a first look in minutes.
        Demo = "demo",
        /// The post's size and schedule at depth 28.
        Depth28 = "depth28",
        /// The post's size and schedule at depth 40.
        Depth40 = "depth40",
        /// The post's size and schedule at depth 70.
        Depth70 = "depth70",
        /// The post's size and schedule at depth 100.
        Depth100 = "depth100",
        /// The post's protocol at depth 28, meant to reach its loss soonest on a GPU with tensor cores.
        Fast28 = "fast28",
        /// The same at depth 40.
        Fast40 = "fast40",
        /// The same at depth 70.
        Fast70 = "fast70",
        /// The same at depth 100.
        Fast100 = "fast100",
    }
}

choice! {
    /// Activation after the two dense norms.
    Activation {
        /// 1 / (1 + exp(-x)), the post's.
        Sigmoid = "sigmoid",
        /// max(x, 0).
        Relu = "relu",
        /// Hyperbolic tangent.
        Tanh = "tanh",
        /// x / (1 + exp(-x)), also called swish.
        Silu = "silu",
        /// x times the standard normal distribution function of x.
        Gelu = "gelu",
    }
}

choice! {
    /// The images a run validates on.
    Validation {
        /// 5,000 images held out of the training set by seed.
        HeldOut = "held-out",
        /// The test set, the post's way.
        Test = "test",
    }
}

choice! {
    /// How a latent is drawn from the posterior.
    Sampler {
        /// mean + exp(log_variance / 2) * noise.
        Correct = "correct",
        /// mean + exp(log_variance) * noise, the post's form, for comparison with its table only.
        Blog = "blog",
    }
}

choice! {
    /// Random changes of the training images.
    Augment {
        /// Images as they are, the post's way.
        None = "none",
        /// Horizontal flip with probability one half.
        Flip = "flip",
        /// Horizontal flip, then a 32 x 32 crop of the padded image.
        FlipCrop = "flip-crop",
    }
}

choice! {
    /// What a full disk does to a run.
    OnDiskFull {
        /// It ends; the last checkpoint is intact.
        Stop = "stop",
        /// It waits until there is space again.
        Pause = "pause",
    }
}

choice! {
    /// The type in which convolutions and matrix products are computed.
    Precision {
        /// float32, as everything else.
        F32 = "f32",
        /// bfloat16; parameters, statistics, losses and optimizer stay float32.
        Bf16 = "bf16",
    }
}

choice! {
    /// What becomes of the learning rate from epoch to epoch.
    RateSchedule {
        /// It is halved after epochs without a better validation loss, the post's way.
        Plateau = "plateau",
        /// It falls from the settings' rate to their minimum along half a cosine over their epochs.
        Cosine = "cosine",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json_and_on_the_command_line_agree() {
        for preset in Preset::ALL {
            assert_eq!(serde_json::to_value(preset).unwrap(), preset.name());
            assert_eq!(preset.name().parse(), Ok(*preset));
        }
        for augment in Augment::ALL {
            assert_eq!(serde_json::to_value(augment).unwrap(), augment.to_string());
            assert_eq!(augment.to_string().parse(), Ok(*augment));
        }
        assert_eq!(Validation::NAMES, ["held-out", "test"]);
        assert_eq!(Sampler::NAMES, ["correct", "blog"]);
    }

    #[test]
    fn choices_are_case_sensitive_and_list_the_names() {
        let error = "Relu".parse::<Activation>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`Relu` is none of sigmoid, relu, tanh, silu, gelu"
        );
    }
}
