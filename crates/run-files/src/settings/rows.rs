//! Every setting, one row each: flags, environment, file, checks, help, identity and printing follow from its row.
//!
//! To add a setting, add a row (`since: later`, so that older runs are read as having its default, and `at_default: left_out`, so that
//! the files of runs without it stay as they are), and use the field where it counts. The order of the rows is that of `config.json`, of `--print-config` and of `--help`.

use std::path::PathBuf;

use vae_measures::{KlSchedule, Likelihood};

use super::domain::Domain;
use super::options::{EmbeddedData, Resume};
use super::row::settings;
use super::values::{
    Activation, Augment, CheckpointInterval, DeviceChoice, Devices, OnDiskFull, Precision, Preset,
    RateSchedule, Sampler, Validation,
};
use crate::memory_limit::MemoryLimit;

/// The depths there are; each RESNET_DEPTH of the post means one of them, in this order.
pub(super) const DEPTHS: [u64; 4] = [28, 40, 70, 100];

/// Numbers of shards: powers of two, so that halves of them are divided alike.
const SHARDS: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

settings! {
    /// The preset the values started from, if any.
    Preset preset: Option<Preset> = None => {
        values: Domain::Names(Preset::NAMES),
        flag: preset "--preset" "NAME",
            "Starting point: demo (small model on the embedded sample), the post's run at depth28, depth40, "
            "depth70, depth100, or fast28, fast40, fast70, fast100 (the post's protocol for one GPU with tensor cores; a "
            "starting point, not measured) [default: none]",
        change: Compared,
        none: allowed,
        takes: ["demo", "depth100"],
        refuses: ["depth50", "", "Demo"],
    }
    /// Layers of the model: 28, 40, 70 or 100.
    Depth depth: u32 = 100 => {
        values: Domain::Integers(&DEPTHS),
        flag: depth "--depth" "N",
            "Layers: 28, 40, 70 or 100 [default: 100] [env: RESNET_DEPTH = 0, 1, 2 or 3, in that order]",
        environment: "RESNET_DEPTH",
        change: Fixed,
        takes: ["28", "100"],
        refuses: ["27", "0", "-28", "28.0", "x"],
    }
    /// Multiplier of the stage widths and of the intermediate dimension; 1 is the post's model.
    Width width: f64 = 1.0 => {
        values: Domain::above_zero(16.0),
        flag: width "--width" "W",
            "Multiplier of the stage widths and of the intermediate dimension, above 0 and at most 16 [default: "
            "1]",
        change: Fixed,
        takes: ["1e-9", "16"],
        refuses: ["0", "-1", "16.1", "nan", "inf", "1x"],
    }
    /// Dimensions of the latent.
    LatentDim latent_dim: usize = 256 => {
        values: Domain::integer(1, 65_536),
        flag: latent_dim "--latent-dim" "Z",
            "Dimensions of the latent, 1 to 65536 [default: 256] [env: LATENT_DIM]",
        environment: "LATENT_DIM",
        change: Fixed,
        takes: ["1", "65536"],
        refuses: ["0", "65537", "-1", "1.5"],
    }
    /// Features of the two dense layers, a multiple of 16; already resolved.
    IntermediateDim intermediate_dim: usize = 1024 => {
        values: Domain::Integer { low: 16, high: 65_536, step: 16 },
        flag: intermediate_dim "--intermediate-dim" "N",
            "Features of the two dense layers, a multiple of 16 from 16 to 65536 [default: 1024 times the width] "
            "[env: INTERMEDIATE_DIM]",
        environment: "INTERMEDIATE_DIM",
        change: Fixed,
        takes: ["16", "65536"],
        refuses: ["0", "15", "1000", "65552"],
    }
    /// Images per step.
    BatchSize batch_size: usize = 25 => {
        values: Domain::integer(2, 50_000),
        unit: " images (a single image would leave its decoder's dense norm nothing but zeros)",
        flag: batch_size "--batch-size" "B",
            "Images per step, 2 to 50000 [default: 25] [env: BATCH_SIZE]",
        environment: "BATCH_SIZE",
        change: Fixed,
        takes: ["2", "50000"],
        refuses: ["1", "0", "50001"],
    }
    /// Epochs at most.
    Epochs epochs: u32 = 1000 => {
        values: Domain::integer(1, 1_000_000),
        flag: epochs "--epochs" "E",
            "Epochs at most, 1 to 1000000 [default: 1000] [env: EPOCHS]",
        environment: "EPOCHS",
        change: Free,
        takes: ["1", "1000000"],
        refuses: ["0", "1000001"],
    }
    /// Adam's learning rate at the start.
    LearningRate learning_rate: f64 = 0.001 => {
        values: Domain::above_zero(1.0),
        flag: learning_rate "--learning-rate" "R",
            "Adam's learning rate at the start, above 0 and at most 1 [default: 0.001] [env: LEARNING_RATE]",
        environment: "LEARNING_RATE",
        change: Compared,
        takes: ["1e-12", "1"],
        refuses: ["0", "-0.1", "1.01", "NaN"],
    }
    /// Keras' learning-rate decay: step `n` uses `learning_rate / (1 + decay * n)`. Not weight decay.
    Decay decay: f64 = 0.0 => {
        values: Domain::from_zero(1.0),
        flag: decay "--decay" "D",
            "Learning-rate decay per step, rate / (1 + decay * step), from 0 to 1 [default: 0] [env: DECAY]",
        environment: "DECAY",
        change: Compared,
        takes: ["0", "1"],
        refuses: ["-1e-9", "1.01"],
    }
    /// Activation after the two dense norms; the blocks always use ReLU.
    Activation activation: Activation = Activation::Sigmoid => {
        values: Domain::Names(Activation::NAMES),
        flag: activation "--activation" "A",
            "Activation after the two dense norms: sigmoid, relu, tanh, silu or gelu [default: sigmoid] [env: "
            "ACTIVATION]",
        environment: "ACTIVATION",
        change: Compared,
        takes: ["sigmoid", "gelu"],
        refuses: ["elu", ""],
    }
    /// Share of the dense features dropped in training, in [0, 1).
    Dropout dropout: f64 = 0.0 => {
        values: Domain::from_zero_below(1.0),
        flag: dropout "--dropout" "P",
            "Share of the dense features dropped in training, from 0 to below 1 [default: 0] [env: DROPOUT]",
        environment: "DROPOUT",
        change: Compared,
        takes: ["0", "0.999"],
        refuses: ["1", "-0.1"],
    }
    /// Seed of every random stream.
    Seed seed: u64 = 1 => {
        values: Domain::integer(0, u64::MAX),
        flag: seed "--seed" "S",
            "Seed of every random stream, 0 to 2^64 - 1 [default: 1]",
        change: Fixed,
        takes: ["0", "18446744073709551615"],
        refuses: ["-1", "18446744073709551616"],
    }
    /// Folder of the CIFAR-10 files, or [`EMBEDDED_SAMPLE`](super::EMBEDDED_SAMPLE); none means that sample under preset `demo`, and
    /// `data` elsewhere.
    DataDir data_dir: Option<PathBuf> = None => {
        values: Domain::Path,
        flag: data_dir "--data-dir" "DIR",
            "Folder with the CIFAR-10 files [default: none; preset demo then uses the embedded sample, other runs "
            "what is in data]",
        change: Free,
        none: allowed,
        takes: ["."],
        refuses: [""],
    }
    /// Folder of the run.
    RunDir run_dir: Option<PathBuf> = None => {
        values: Domain::Path,
        flag: run_dir "--run-dir" "DIR",
            "Folder of the run [default: none] [env: OUTDIR]",
        environment: "OUTDIR",
        change: Free,
        none: allowed,
        takes: ["runs/1"],
        refuses: [""],
    }
    /// Where the tensors live; several devices share each batch.
    Device device: Devices = DeviceChoice::Flex.into() => {
        values: Domain::text::<Devices>(Devices::FORMS, &["flex", "ndarray", "cuda:0"]),
        flag: device "--device" "DEVICE",
            "Where tensors live: {values}; several devices share each batch, each normalising its part with its own batch statistics; compiled kernels are kept in ~/.cache/cubecl [default: flex]",
        change: Compared,
        takes: ["flex", "cuda:7", "cuda:0,cuda:1", "flex,flex"],
        refuses: ["cuda:", "gpu", "flex,cuda:0", "cuda:1,cuda:1"],
    }
    /// Whether the blocks have shortcuts; false is the degradation experiment.
    Shortcuts shortcuts: bool = true => {
        values: Domain::Boolean,
        switch: no_shortcuts "--no-shortcuts" gives "false",
            "Build the blocks without shortcuts [default: with shortcuts]",
        change: Fixed,
        takes: ["true", "false"],
        refuses: ["yes", ""],
    }
    /// What the run validates on.
    Validation validation: Validation = Validation::HeldOut => {
        values: Domain::Names(Validation::NAMES),
        flag: validation "--validation" "SPLIT",
            "Validate on 5000 held-out training images or, as the post did, on the test set: held-out or test "
            "[default: held-out]",
        change: Fixed,
        takes: ["held-out", "test"],
        refuses: ["heldout"],
    }
    /// How the latent is drawn.
    Sampler sampler: Sampler = Sampler::Correct => {
        values: Domain::Names(Sampler::NAMES),
        flag: sampler "--sampler" "NAME",
            "Latent draw: correct, or blog for the post's standard deviation [default: correct]",
        change: Compared,
        takes: ["correct", "blog"],
        refuses: ["wrong"],
    }
    /// Training images used, counted after the split; none means all.
    LimitTrain limit_train: Option<usize> = None => {
        values: Domain::integer(2, 50_000),
        unit: " images",
        flag: limit_train "--limit-train" "N",
            "Training images used, counted after the split, 2 to 50000 [default: none, all of them]",
        change: Fixed,
        none: allowed,
        takes: ["2", "50000"],
        refuses: ["1", "50001"],
    }
    /// Test images used, and validation images, each counted after the split; none means all.
    LimitTest limit_test: Option<usize> = None => {
        values: Domain::integer(1, 10_000),
        unit: " images",
        flag: limit_test "--limit-test" "N",
            "Test images used, counted after the split, and at most as many validation images, 1 to 10000 [default: none, all of them]",
        change: Fixed,
        none: allowed,
        takes: ["1", "10000"],
        refuses: ["0", "10001"],
    }
    /// Random changes of the training images.
    Augment augment: Augment = Augment::None => {
        values: Domain::Names(Augment::NAMES),
        flag: augment "--augment" "NAME",
            "Random changes of the training images: none, flip or flip-crop [default: none]",
        change: Compared,
        takes: ["none", "flip-crop"],
        refuses: ["crop"],
    }
    /// Epochs without a better validation loss before the learning rate is halved.
    HalvingPatience halving_patience: u32 = 25 => {
        values: Domain::integer(1, 1_000_000),
        unit: " epochs",
        change: Compared,
        takes: ["1", "1000000"],
        refuses: ["0", "1000001"],
    }
    /// Halving stops at this learning rate.
    MinimumLearningRate minimum_learning_rate: f64 = 1e-6 => {
        values: Domain::from_zero(1.0),
        change: Compared,
        takes: ["0", "1"],
        refuses: ["-1e-6", "2"],
    }
    /// Epochs without an improvement of `stopping_minimum_improvement` before the run stops.
    StoppingPatience stopping_patience: u32 = 50 => {
        values: Domain::integer(1, 1_000_000),
        unit: " epochs",
        change: Compared,
        takes: ["1", "1000000"],
        refuses: ["0", "1000001"],
    }
    /// Validation loss, in nats per image, that counts as an improvement for stopping.
    StoppingMinimumImprovement stopping_minimum_improvement: f64 = 0.1 => {
        values: Domain::from_zero(1e9),
        unit: " nats an image",
        change: Compared,
        takes: ["0", "1e9"],
        refuses: ["-0.1", "inf"],
    }
    /// Steps whose gradient norm exceeds this many times the median of recent ones are skipped; none means that no
    /// finite step is.
    SkipGradientNorm skip_gradient_norm: Option<f64> = None => {
        values: Domain::Number { low: 1.0, low_is_open: true, high: 1e9, high_is_open: false },
        unit: " times the median of recent gradient norms",
        flag: skip_gradient_norm "--skip-gradient-norm" "F",
            "Skip steps whose gradient norm exceeds this many times the median of the hundred norms before the last step's, above 1 "
            "[default: none, no finite step is skipped]",
        change: Compared,
        none: allowed,
        takes: ["1.001", "1e9"],
        refuses: ["1", "0", "inf"],
    }
    /// How often a checkpoint is written within an epoch; none means at the ends of epochs only.
    CheckpointEvery checkpoint_every: Option<CheckpointInterval> = None => {
        values: Domain::text::<CheckpointInterval>(CheckpointInterval::FORMS, &[]),
        flag: checkpoint_every "--checkpoint-every" "N",
            "Write a checkpoint every so many steps (500) or minutes (5m), besides the ends of epochs [default: "
            "none]",
        change: Free,
        none: allowed,
        takes: ["1", "500", "5m", "0.5m"],
        refuses: ["0", "-1", "m", "0m", "5s", "1.5", "", "infm"],
    }
    /// What a full disk does to the run.
    OnDiskFull on_disk_full: OnDiskFull = OnDiskFull::Stop => {
        values: Domain::Names(OnDiskFull::NAMES),
        flag: on_disk_full "--on-disk-full" "WHAT",
            "A full disk ends the run, or lets it wait for space: stop or pause [default: stop]",
        change: Free,
        takes: ["stop", "pause"],
        refuses: ["wait"],
    }
    /// The type in which convolutions and matrix products are computed.
    Precision precision: Precision = Precision::F32 => {
        values: Domain::Names(Precision::NAMES),
        flag: precision "--precision" "NAME",
            "Convolutions and matrix products in float32, or in bfloat16 with float32 parameters, statistics, "
            "losses and optimizer: f32 or bf16 [default: f32] [env: PRECISION]",
        environment: "PRECISION",
        change: Fixed,
        since: later,
        takes: ["f32", "bf16"],
        refuses: ["f16", "F32"],
    }
    /// Images at a time within a step; none means all of its batch. Gradients are summed over the micro-batches of a step;
    /// batch norm uses the statistics of each.
    MicroBatchSize micro_batch_size: Option<usize> = None => {
        values: Domain::integer(2, 50_000),
        unit: " images (a single image would leave its decoder's dense norm nothing but zeros)",
        flag: micro_batch_size "--micro-batch-size" "N",
            "Split each batch into equal parts of at most so many images, 2 to 50000, and sum their gradients: "
            "one update per step with less memory; each part is normalised with its own batch statistics, so results "
            "differ from those of a run without it [default: none, the whole batch]",
        change: Compared,
        none: allowed,
        since: later,
        takes: ["2", "50000"],
        refuses: ["1", "0", "50001"],
    }
    /// Equal shards of each batch, each normalised with its own statistics, whose gradients are added in a fixed binary tree; 1 means one
    /// for each device.
    Shards shards: usize = 1 => {
        values: Domain::Integers(&SHARDS),
        flag: shards "--shards" "S",
            "Divide each batch into so many equal parts, a power of two to 1024, each normalised with its own batch statistics; "
            "any number of ranks and devices that divides it then computes the same run to the bit [default: 1, or one for each "
            "device of each rank]",
        change: Compared,
        since: later,
        at_default: left_out,
        takes: ["1", "4", "1024"],
        refuses: ["0", "3", "2048"],
    }
    /// Whether norms use the statistics of the whole batch where it is divided into shards.
    SyncNorm sync_norm: bool = false => {
        values: Domain::Boolean,
        switch: sync_norm "--sync-norm" gives "true",
            "Normalise the shards of a batch with the statistics of the whole batch, as if it were not divided, at the price of a few small "
            "messages between them at each norm: for shards of a few images; on flex, without micro-batches and free bits "
            "[default: false]",
        change: Compared,
        since: later,
        at_default: left_out,
        takes: ["true", "false"],
        refuses: ["yes", "1"],
    }
    /// Whether blocks are computed again in the backward pass instead of keeping what it needs of them.
    GradientCheckpointing gradient_checkpointing: bool = false => {
        values: Domain::Boolean,
        switch: gradient_checkpointing "--gradient-checkpointing" gives "true",
            "Keep the input of each block only and compute the block again in the backward pass: the same "
            "gradients with less memory and about a third more time [default: false]",
        change: Compared,
        since: later,
        takes: ["true", "false"],
        refuses: ["yes", "1"],
    }
    /// What becomes of the learning rate from epoch to epoch.
    Schedule schedule: RateSchedule = RateSchedule::Plateau => {
        values: Domain::Names(RateSchedule::NAMES),
        flag: schedule "--schedule" "NAME",
            "Learning rate: plateau halves it after epochs without a better validation loss; cosine lets it fall "
            "to its minimum along half a cosine, epoch by epoch, until the last of --epochs [default: plateau]",
        change: Compared,
        since: later,
        takes: ["plateau", "cosine"],
        refuses: ["linear"],
    }
    /// Steps over which the learning rate rises linearly from 0; 0 means none.
    WarmupSteps warmup_steps: u64 = 0 => {
        values: Domain::integer(0, 1_000_000),
        flag: warmup_steps "--warmup-steps" "N",
            "Steps over which the learning rate rises linearly from 0, 0 to 1000000 [default: 0]",
        change: Compared,
        since: later,
        takes: ["0", "1000000"],
        refuses: ["-1", "1000001"],
    }
    /// Distribution of the pixels given the decoder's output.
    Likelihood likelihood: Likelihood = Likelihood::Bernoulli => {
        values: Domain::text::<Likelihood>(Likelihood::FORMS, &Likelihood::USUAL),
        flag: likelihood "--likelihood" "NAME",
            "Distribution of the pixels: {values}; bernoulli is the post's cross-entropy and has no bits per dimension "
            "[default: bernoulli]",
        change: Fixed,
        since: later,
        at_default: left_out,
        takes: ["bernoulli", "logistic:global", "logistic-mixture:10"],
        refuses: ["logistic-mixture", "logistic-mixture:0", "Gaussian", ""],
    }
    /// Weight of the KL divergence in what is minimised; scores always have weight 1.
    Beta beta: f64 = 1.0 => {
        values: Domain::from_zero(1e6),
        flag: beta "--beta" "X",
            "Weight of the KL divergence in what is minimised, 0 to 1000000; scores keep weight 1 [default: 1]",
        change: Fixed,
        since: later,
        at_default: left_out,
        takes: ["0", "1000000"],
        refuses: ["-1", "inf"],
    }
    /// How that weight grows over the first updates.
    KlWarmup kl_warmup: KlSchedule = KlSchedule::None => {
        values: Domain::text::<KlSchedule>(KlSchedule::FORMS, &[]),
        flag: kl_warmup "--kl-warmup" "SCHEDULE",
            "How that weight grows from 0: none, linear:STEPS, linear:STEPS:FLOOR, cyclical:TOTAL:CYCLES or "
            "cyclical:TOTAL:CYCLES:RATIO, in updates [default: none]",
        change: Fixed,
        since: later,
        at_default: left_out,
        takes: ["none", "linear:0", "linear:10:0.5", "cyclical:100:4"],
        refuses: ["linear", "linear:-1", "cyclical:4:5", ""],
    }
    /// Nats of each latent dimension, as a mean over the whole batch, that cost nothing in what is minimised; none means 0.
    FreeBits free_bits: Option<f64> = None => {
        values: Domain::above_zero(1e6),
        unit: " nats a latent dimension",
        flag: free_bits "--free-bits" "NATS",
            "Nats of each latent dimension, as a mean over the whole batch, that cost nothing in what is minimised, "
            "above 0 [default: none]",
        change: Fixed,
        none: allowed,
        since: later,
        at_default: left_out,
        takes: ["1e-9", "1000000"],
        refuses: ["0", "-1"],
    }
    /// Decay of the weights' exponential moving average, which scores, pictures and exports are of; none means the weights
    /// themselves.
    Ema ema: Option<f64> = None => {
        values: Domain::Number { low: 0.0, low_is_open: true, high: 1.0, high_is_open: true },
        flag: ema "--ema" "DECAY",
            "Keep an exponential moving average of the weights with this decay, such as 0.999, for scores, pictures "
            "and exports [default: none]",
        change: Fixed,
        none: allowed,
        since: later,
        at_default: left_out,
        takes: ["1e-9", "0.9999"],
        refuses: ["0", "1", "-0.5"],
    }

    // Flags of `train` that are no settings.
    [
    /// Choose --micro-batch-size as the largest that fits the device's free memory, by the prediction that summary shows and, on
    /// processors where not all fits by it, by measured steps; record it; a resumed run keeps what was recorded
    /// [default: as --micro-batch-size says]
    #[arg(long, conflicts_with = "micro_batch_size")]
    pub auto_batch: bool,
    /// Memory that --auto-batch may count on, such as 8GiB or 500MB [default: what is free when the run begins]
    #[arg(long, value_name = "SIZE", requires = "auto_batch")]
    pub memory_limit: Option<MemoryLimit>,
    /// JSON file with any of the keys that --print-config lists; it overrides the preset, and flags and environment override
    /// it [default: none]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data inside the program.
    #[arg(long, value_name = "NAME", conflicts_with = "data_dir", help = super::options::data_help())]
    pub data: Option<EmbeddedData>,
    /// Continue the run in the run folder, with its config.json unless --config is given; --resume=or-start begins it where
    /// there is nothing to continue [default: a folder in use is refused]
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "existing")]
    pub resume: Option<Resume>,
    /// Go on with other settings than the run was begun with; the run is then no longer the one that its config.json
    /// describes from the start [default: changed settings are refused]
    #[arg(long, requires = "resume")]
    pub allow_config_change: bool,
    /// Go back to the checkpoint of the best validation loss instead of the newest one, for good
    /// [default: the newest intact checkpoint]
    #[arg(long, requires = "resume")]
    pub from_best: bool,
    /// Seconds without a sign of life after which another rank counts as lost, under mpirun or srun, 5 to 86400
    /// [default: 12]
    #[arg(long, value_name = "SECONDS", default_value_t = 12, hide_default_value = true, value_parser = super::options::rank_timeout)]
    pub rank_timeout: u64,
    /// Processes on this machine that share each batch, a power of two; `cargo xtask train` starts them with mpirun
    /// [default: 1]
    #[arg(long, value_name = "N")]
    pub ranks: Option<usize>,
    /// Print every setting and where its value came from, and end [default: train]
    #[arg(long)]
    pub print_config: bool,
    /// Write one JSON object per event to stdout, and nothing else [default: progress for people]
    #[arg(long)]
    pub json: bool,
    ]
}
