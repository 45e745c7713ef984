//! The flags of `train`.

use std::path::PathBuf;

use super::Key;
use crate::memory_limit::MemoryLimit;

// clap would put a doc comment in place of the command's own description, so only rustdoc may see this one.
#[cfg_attr(
    doc,
    doc = "Flags of the training command.\n\nValues stay text here, so that flags, environment and files share one \
           parser, one set of ranges and one form of error. Help lines that name no environment variable have none."
)]
#[cfg_attr(not(doc), allow(missing_docs))]
#[derive(clap::Args, Clone, Debug, Default)]
pub struct TrainFlags {
    /// Starting point: demo (small model on the embedded sample), the post's run at depth28, depth40, depth70,
    /// depth100, or fast28 (the post's protocol at depth 28 for one GPU with tensor cores; a starting point, not measured)
    /// [default: none]
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Layers: 28, 40, 70 or 100 [default: 100] [env: RESNET_DEPTH = 0, 1, 2 or 3, in that order]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub depth: Option<String>,
    /// Multiplier of the stage widths and of the intermediate dimension, above 0 and at most 16 [default: 1]
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    pub width: Option<String>,
    /// Dimensions of the latent, 1 to 65536 [default: 256] [env: LATENT_DIM]
    #[arg(long, value_name = "Z", allow_negative_numbers = true)]
    pub latent_dim: Option<String>,
    /// Features of the two dense layers, a multiple of 16 from 16 to 65536 [default: 1024 times the width]
    /// [env: INTERMEDIATE_DIM]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub intermediate_dim: Option<String>,
    /// Images a step, 2 to 50000 [default: 25] [env: BATCH_SIZE]
    #[arg(long, value_name = "B", allow_negative_numbers = true)]
    pub batch_size: Option<String>,
    /// Epochs at most, 1 to 1000000 [default: 1000] [env: EPOCHS]
    #[arg(long, value_name = "E", allow_negative_numbers = true)]
    pub epochs: Option<String>,
    /// Adam's learning rate at the start, above 0 and at most 1 [default: 0.001] [env: LEARNING_RATE]
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    pub learning_rate: Option<String>,
    /// Learning-rate decay a step, rate / (1 + decay * step), from 0 to 1 [default: 0] [env: DECAY]
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    pub decay: Option<String>,
    /// Activation after the two dense norms: sigmoid, relu, tanh, silu or gelu [default: sigmoid] [env: ACTIVATION]
    #[arg(long, value_name = "A")]
    pub activation: Option<String>,
    /// Share of the dense features dropped in training, from 0 to below 1 [default: 0] [env: DROPOUT]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub dropout: Option<String>,
    /// Seed of every random stream, 0 to 2^64 - 1 [default: 1]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub seed: Option<String>,
    /// Folder with the CIFAR-10 files [default: none; preset demo then uses the embedded sample]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Folder of the run [default: none] [env: OUTDIR]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<String>,
    /// flex, ndarray, or cuda:N with N a GPU index from 0; several GPUs (cuda:0,cuda:1) share each batch, each normalising
    /// its part with its own batch statistics, and the first one's running statistics are kept; compiled kernels are kept
    /// in ~/.cache/cubecl [default: flex]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Build the blocks without shortcuts [default: with shortcuts]
    #[arg(long)]
    pub no_shortcuts: bool,
    /// Validate on 5000 held-out training images or, as the post did, on the test set: held-out or test
    /// [default: held-out]
    #[arg(long, value_name = "SPLIT")]
    pub validation: Option<String>,
    /// Latent draw: correct, or blog for the post's standard deviation [default: correct]
    #[arg(long, value_name = "NAME")]
    pub sampler: Option<String>,
    /// Training images used, counted after the split, 2 to 50000 [default: none, all of them]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub limit_train: Option<String>,
    /// Test images used, counted after the split, 1 to 10000 [default: none, all of them]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub limit_test: Option<String>,
    /// Random changes of the training images: none, flip or flip-crop [default: none]
    #[arg(long, value_name = "NAME")]
    pub augment: Option<String>,
    /// Skip steps whose gradient norm exceeds this many times the median of the last hundred, above 1
    /// [default: none, no finite step is skipped]
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub skip_gradient_norm: Option<String>,
    /// Write a checkpoint every so many steps (500) or minutes (5m), besides the ends of epochs [default: none]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub checkpoint_every: Option<String>,
    /// A full disk ends the run, or lets it wait for space: stop or pause [default: stop]
    #[arg(long, value_name = "WHAT")]
    pub on_disk_full: Option<String>,
    /// Convolutions and matrix products in float32, or in bfloat16 with float32 parameters, statistics, losses and
    /// optimizer: f32 or bf16 [default: f32] [env: PRECISION]
    #[arg(long, value_name = "NAME")]
    pub precision: Option<String>,
    /// Split each batch into equal parts of at most so many images, 2 to 50000, and sum their gradients: one update a step
    /// with less memory; each part is normalised with its own batch statistics, so it is another run than without
    /// [default: none, the whole batch]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub micro_batch_size: Option<String>,
    /// Keep the input of each block only and compute the block again in the backward pass: the same gradients with less
    /// memory and about a third more time [default: false]
    #[arg(long)]
    pub gradient_checkpointing: bool,
    /// Choose --micro-batch-size as the largest that fits the device's free memory by the prediction that summary shows, and
    /// record it; a resumed run keeps what was recorded [default: as --micro-batch-size says]
    #[arg(long, conflicts_with = "micro_batch_size")]
    pub auto_batch: bool,
    /// Memory that --auto-batch may count on, such as 8GiB or 500MB [default: what is free when the run begins]
    #[arg(long, value_name = "SIZE", requires = "auto_batch")]
    pub memory_limit: Option<MemoryLimit>,
    /// Learning rate: plateau halves it after epochs without a better validation loss; cosine lets it fall to its minimum along
    /// half a cosine, epoch by epoch, until the last of --epochs [default: plateau]
    #[arg(long, value_name = "NAME")]
    pub schedule: Option<String>,
    /// Steps over which the learning rate rises linearly from 0, 0 to 1000000 [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub warmup_steps: Option<String>,
    /// JSON file with any of the keys that --print-config lists; it wins over the preset, flags and environment win
    /// over it [default: none]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Continue the run in the run folder, with its config.json unless --config is given; starts it where there is
    /// nothing yet [default: a folder in use is refused]
    #[arg(long)]
    pub resume: bool,
    /// Go on with other settings than the run was begun with; the run is then no longer the one that its config.json
    /// describes from the start [default: changed settings are refused]
    #[arg(long, requires = "resume")]
    pub allow_config_change: bool,
    /// Go back to the checkpoint of the best validation loss instead of the newest one, for good
    /// [default: the newest intact checkpoint]
    #[arg(long, requires = "resume")]
    pub from_best: bool,
    /// Print every setting and where its value came from, and end [default: train]
    #[arg(long)]
    pub print_config: bool,
    /// Write one JSON object an event to stdout, and nothing else [default: progress for people]
    #[arg(long)]
    pub json: bool,
}

impl TrainFlags {
    /// The settings given as flags, as text.
    pub(super) fn given(&self) -> Vec<(Key, &str)> {
        [
            (Key::Preset, &self.preset),
            (Key::Depth, &self.depth),
            (Key::Width, &self.width),
            (Key::LatentDim, &self.latent_dim),
            (Key::IntermediateDim, &self.intermediate_dim),
            (Key::BatchSize, &self.batch_size),
            (Key::Epochs, &self.epochs),
            (Key::LearningRate, &self.learning_rate),
            (Key::Decay, &self.decay),
            (Key::Activation, &self.activation),
            (Key::Dropout, &self.dropout),
            (Key::Seed, &self.seed),
            (Key::DataDir, &self.data_dir),
            (Key::RunDir, &self.run_dir),
            (Key::Device, &self.device),
            (Key::Validation, &self.validation),
            (Key::Sampler, &self.sampler),
            (Key::LimitTrain, &self.limit_train),
            (Key::LimitTest, &self.limit_test),
            (Key::Augment, &self.augment),
            (Key::SkipGradientNorm, &self.skip_gradient_norm),
            (Key::CheckpointEvery, &self.checkpoint_every),
            (Key::OnDiskFull, &self.on_disk_full),
            (Key::Precision, &self.precision),
            (Key::MicroBatchSize, &self.micro_batch_size),
            (Key::Schedule, &self.schedule),
            (Key::WarmupSteps, &self.warmup_steps),
        ]
        .into_iter()
        .filter_map(|(key, text)| text.as_deref().map(|text| (key, text)))
        .chain(self.no_shortcuts.then_some((Key::Shortcuts, "false")))
        .chain(
            self.gradient_checkpointing
                .then_some((Key::GradientCheckpointing, "true")),
        )
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::settings::domain::Domain;
    use clap::{Args, Command, FromArgMatches};

    fn command() -> Command {
        TrainFlags::augment_args(Command::new("train").no_binary_name(true))
    }

    fn parse(arguments: &[&str]) -> TrainFlags {
        TrainFlags::from_arg_matches(&command().get_matches_from(arguments)).unwrap()
    }

    #[test]
    fn every_flag_reaches_its_key() {
        for key in Key::ALL {
            let Some(flag) = key.flag() else { continue };
            if let Domain::Boolean = key.domain() {
                let given = if key == Key::Shortcuts {
                    "false"
                } else {
                    "true"
                };
                assert_eq!(parse(&[flag]).given(), [(key, given)]);
                continue;
            }
            // A negative number must reach the range check, not be taken for a flag.
            let is_number =
                key.parse("16").is_ok() || key.parse("28").is_ok() || key.parse("0").is_ok();
            let text = if is_number && !matches!(key.domain(), Domain::Path) {
                "-5"
            } else {
                "x"
            };
            assert_eq!(parse(&[flag, text]).given(), [(key, text)], "{flag}");
        }
        assert_eq!(parse(&[]).given(), []);
    }

    #[test]
    fn help_states_default_and_environment_of_every_flag() {
        let defaults = Settings::default().to_map();
        let command = command();
        for argument in command.get_arguments() {
            let help = argument.get_help().unwrap().to_string().replace('\n', " ");
            assert!(help.contains("[default: "), "{}: {help}", argument.get_id());
            let Some(key) = Key::from_name(argument.get_id().as_str()) else {
                continue;
            };
            if let Some(name) = key.environment() {
                assert!(help.contains(&format!("[env: {name}")), "{help}");
            } else {
                assert!(!help.contains("[env: "), "{help}");
            }
            let default = match &defaults[key.name()] {
                serde_json::Value::Null => "none".to_owned(),
                value => value
                    .to_string()
                    .trim_matches('"')
                    .trim_end_matches(".0")
                    .to_owned(),
            };
            assert!(
                help.contains(&format!("[default: {default}")),
                "{default}: {help}"
            );
        }
    }

    #[test]
    fn the_flags_leave_the_description_of_the_command_alone() {
        let described = Command::new("train").about("Trains.");
        let command = TrainFlags::augment_args(described);
        assert_eq!(
            command.get_about().map(ToString::to_string).as_deref(),
            Some("Trains.")
        );
        assert!(command.get_long_about().is_none());
    }

    #[test]
    fn every_setting_with_a_flag_is_an_argument() {
        let command = command();
        let flags: Vec<String> = command
            .get_arguments()
            .map(|argument| format!("--{}", argument.get_long().unwrap()))
            .collect();
        for key in Key::ALL {
            if let Some(flag) = key.flag() {
                assert!(flags.iter().any(|known| known == flag), "{flag}");
            }
        }
        assert_eq!(flags.len(), 29 + 8);
    }
}
