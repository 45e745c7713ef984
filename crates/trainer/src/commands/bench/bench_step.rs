use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use vae_measures::Likelihood;

use super::pytorch_comparison::{Comparison, comparison};
use crate::commands::conclusion::{conclude, unconnected};
use crate::commands::error::TrainerError;
use crate::commands::number_argument::integer;
use crate::commands::output::{print, print_json};
use crate::commands::path_argument::path;
use crate::device::{DeviceError, matrix_products_line, open_device_for, with_failures_as_errors};
use crate::process::lifeline;
use crate::process::progress::{Progress, ProgressMode};
use crate::process::stop_request::StopRequest;
use crate::ranks::Ranks;
use crate::timing::pytorch_timing::{PytorchForm, PytorchTiming, threads, time_pytorch};
use crate::timing::step_scaling::{Scaling, time_scaling};
use crate::timing::step_timing::{StepTiming, TimingOptions, time_steps_on_ranks};
use run_files::atomic_file::write_atomically;
use run_files::run_folder::RunFolderError;
use run_files::settings::{DeviceChoice, Precision, Settings, SettingsError, TrainFlags, resolve};
use run_files::wording::mebibytes;

/// How long another rank may give no sign of life.
const RANK_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub(in crate::commands) struct BenchStepFlags {
    /// 28, 40, 70 or 100
    #[arg(long, value_name = "N", default_value = "28")]
    depth: String,
    /// Multiplier of the stage widths and the intermediate dimension
    #[arg(long, value_name = "W", default_value = "0.125")]
    width: String,
    /// Dimensions of the latent
    #[arg(long, value_name = "Z", default_value = "64")]
    latent_dim: String,
    /// Images per step
    #[arg(long, value_name = "B", default_value = "25")]
    batch_size: String,
    /// f32 or bf16
    #[arg(long, value_name = "NAME", default_value = "f32")]
    precision: String,
    /// Distribution of the pixels, as for train
    #[arg(long, value_name = "NAME", default_value = "bernoulli")]
    likelihood: String,
    /// Compute each block again in the backward pass
    #[arg(long)]
    gradient_checkpointing: bool,
    #[arg(long, help = DeviceChoice::FORMS, value_name = "X", default_value = "flex")]
    device: String,
    /// none, flip or flip-crop
    #[arg(long, value_name = "A", default_value = "none")]
    augment: String,
    /// Time evaluation: forward passes with running statistics, no gradients
    #[arg(long)]
    evaluation: bool,
    /// Time Burn's own layers in place of this project's operations
    #[arg(long)]
    plain_layers: bool,
    /// Launch kernel by kernel where a GPU could replay a step as a graph
    #[arg(long)]
    launched: bool,
    /// Steps that count, after the warm-up
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = integer::<usize>(1..=1_000_000))]
    steps: usize,
    /// Steps before those that count
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = integer::<usize>(0..=1_000_000))]
    warmup: usize,
    /// Times the same model in PyTorch too, in turn, with this Python
    #[arg(long, value_name = "PATH_TO_PYTHON", value_parser = path())]
    against_pytorch: Option<PathBuf>,
    /// Its forms: channels-last, contiguous (NCHW), compiled (torch.compile, channels-last), reduce-overhead (the same with CUDA graphs);
    /// the fastest is compared with
    #[arg(
        long,
        value_name = "FORMS",
        value_delimiter = ',',
        default_value = "channels-last",
        requires = "against_pytorch"
    )]
    pytorch_forms: Vec<PytorchForm>,
    /// Rounds of all in turn, with --against-pytorch
    #[arg(long, value_name = "N", default_value_t = 3, requires = "against_pytorch", value_parser = integer::<usize>(1..=1000))]
    rounds: usize,
    /// Time steps as batch, depth and images grow instead, and write scaling.csv and scaling.svg into this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["against_pytorch", "evaluation", "json", "plain_layers", "gradient_checkpointing", "shards"])]
    scaling: Option<PathBuf>,
    /// Parts of each batch with batch statistics of their own; under mpirun at least one for each rank
    #[arg(long, value_name = "S", default_value = "1")]
    shards: String,
    /// All settings of a run in place of those above, as JSON: what --auto-batch measures steps with
    #[arg(long, value_name = "JSON", hide = true)]
    settings: Option<String>,
    /// Normalise the shards with the statistics of the whole batch
    #[arg(long)]
    sync_norm: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl BenchStepFlags {
    fn to_settings(&self) -> Result<Settings, SettingsError> {
        if let Some(json) = &self.settings {
            return Settings::from_text(Path::new("--settings"), json);
        }
        let training = TrainFlags {
            depth: Some(self.depth.clone()),
            width: Some(self.width.clone()),
            latent_dim: Some(self.latent_dim.clone()),
            batch_size: Some(self.batch_size.clone()),
            device: Some(self.device.clone()),
            augment: Some(self.augment.clone()),
            precision: Some(self.precision.clone()),
            likelihood: Some(self.likelihood.clone()),
            gradient_checkpointing: self.gradient_checkpointing,
            shards: Some(self.shards.clone()),
            sync_norm: self.sync_norm,
            ..TrainFlags::default()
        };
        // No setting of the environment: a benchmark is what its command says.
        Ok(resolve(&training, &|_| None)?.settings)
    }
}

pub(in crate::commands) fn run(flags: &BenchStepFlags) -> Result<(), TrainerError> {
    lifeline::hold(|| std::process::exit(1));
    // What measures a step for a rank is none.
    let ranks = if flags.settings.is_some() {
        Ranks::alone()
    } else {
        Ranks::of_launcher(RANK_TIMEOUT, &StopRequest::new()).map_err(unconnected)?
    };
    conclude(&ranks, with_failures_as_errors(|| run_on(&ranks, flags)))
}

fn run_on(ranks: &Ranks, flags: &BenchStepFlags) -> Result<(), TrainerError> {
    let settings = flags.to_settings()?;
    if settings.device.count() > 1 {
        return Err(DeviceError::Several {
            command: "bench-step",
            devices: settings.device.clone(),
        }
        .into());
    }
    let device = open_device_for(settings.device.main(), settings.precision)?;
    if let Some(line) = matrix_products_line(settings.device.main(), &device)
        && ranks.is_first()
    {
        Progress::new(ProgressMode::Plain).notice(&line);
    }
    let options = TimingOptions {
        warmup: flags.warmup,
        steps: flags.steps,
        is_evaluation: flags.evaluation,
        is_plain: flags.plain_layers,
        is_launched: flags.launched,
    };
    if let Some(folder) = &flags.scaling {
        return write_scaling(&time_scaling(&settings, options, &device)?, folder);
    }
    let rounds = if flags.against_pytorch.is_some() {
        flags.rounds
    } else {
        1
    };

    let threads = threads();
    let mut ours: Vec<StepTiming> = Vec::new();
    // Each once, however often it is named.
    let mut forms: Vec<PytorchForm> = Vec::new();
    for form in &flags.pytorch_forms {
        if !forms.contains(form) {
            forms.push(*form);
        }
    }
    let mut theirs: Vec<Vec<PytorchTiming>> = vec![Vec::new(); forms.len()];
    for _ in 0..rounds {
        ours.push(time_steps_on_ranks(&settings, options, &device, ranks)?);
        let Some(python) = &flags.against_pytorch else {
            continue;
        };
        for (form, timings) in forms.iter().zip(&mut theirs) {
            timings.push(time_pytorch(python, &settings, options, *form, threads)?);
        }
    }
    // Kernels are compiled in the process's first step, whichever round is shown.
    let first_step_seconds = ours[0].first_step_seconds;
    // The round in the middle stands for all.
    ours.sort_by(|a, b| a.seconds_per_step.total_cmp(&b.seconds_per_step));
    let middle = ours.len() / 2;
    ours[middle].first_step_seconds = first_step_seconds;
    let timing = &ours[middle];
    let result = TimedStep {
        timing,
        device: settings.device.main(),
        depth: settings.depth,
        width: settings.width,
        likelihood_name: settings.likelihood,
        precision: settings.precision,
        gradient_checkpointing: settings.gradient_checkpointing,
        batch_size: settings.batch_size,
        threads,
        pytorch: comparison(timing, &forms, &theirs),
    };
    if !ranks.is_first() {
        return Ok(());
    }
    if flags.json {
        print_json(&result)
    } else {
        print(&lines(&result))
    }
}

fn write_scaling(scaling: &Scaling, folder: &Path) -> Result<(), TrainerError> {
    let csv = scaling.to_csv();
    print(&csv)?;
    for (name, text) in [("scaling.csv", csv), ("scaling.svg", scaling.to_svg())] {
        let path = folder.join(name);
        std::fs::create_dir_all(folder)
            .and_then(|()| write_atomically(&path, text.as_bytes()))
            .map_err(|source| RunFolderError::File { path, source })?;
    }
    Ok(())
}

/// What is printed for programs.
#[derive(Serialize)]
struct TimedStep<'a> {
    #[serde(flatten)]
    timing: &'a StepTiming,
    device: DeviceChoice,
    depth: u32,
    width: f64,
    likelihood_name: Likelihood,
    precision: Precision,
    gradient_checkpointing: bool,
    batch_size: usize,
    threads: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pytorch: Option<Comparison<'a>>,
}

fn lines(result: &TimedStep<'_>) -> String {
    let timing = result.timing;
    let mut text = String::new();
    text += &format!(
        "a step          {:.4} s  ({:.4} to {:.4}, {} steps)\n",
        timing.seconds_per_step, timing.fastest, timing.slowest, timing.steps
    );
    text += &format!("images          {:.1} a second\n", timing.images_per_second);
    text += &format!("first step      {:.4} s\n", timing.first_step_seconds);
    if let Some(reason) = &timing.capture_failure {
        text += &format!(
            "launched        kernel by kernel, because steps cannot be captured as a graph: {reason}\n"
        );
    }
    if let Some(refused) = &timing.unplanned_products {
        text += &format!("products        {refused}\n");
    }
    if let Some(phases) = timing.phases {
        text += &format!(
            "data {:.4}, forward {:.4}, backward {:.4}, optimizer {:.4} s\n",
            phases.data_seconds,
            phases.forward_seconds,
            phases.backward_seconds,
            phases.optimizer_seconds
        );
    }
    if let Some(between) = timing.between_ranks {
        text += &format!(
            "{} ranks         compute {:.4}, communication {:.4}, waiting {:.4} s; {:.1} MB sent a step\n",
            between.ranks,
            between.compute_seconds,
            between.communication_seconds,
            between.waiting_seconds,
            between.bytes_sent as f64 / 1e6
        );
        let exchange = between.exchange;
        text += &format!(
            "an exchange     {:.1} us where it is empty",
            1e6 * exchange.latency_seconds
        );
        if let Some(rate) = exchange.bytes_per_second {
            text += &format!(", {:.2} GB/s each way where it is long", rate / 1e9);
        }
        text += "\n";
    }
    if let Some(processors) = timing.processor_seconds_per_step {
        text += &format!("processors      {processors:.4} s a step, all together\n");
    }
    if let Some(likelihood) = timing.likelihood {
        let (seconds, of, unit) = match (
            likelihood.processor_seconds,
            timing.processor_seconds_per_step,
        ) {
            (Some(seconds), Some(of)) => (seconds, of, " of processors"),
            _ => (likelihood.seconds, timing.seconds_per_step, ""),
        };
        // The system counts processors' time in hundredths of a second: what took less in all is not known.
        if seconds > 0.0 && of > 0.0 {
            text += &format!(
                "likelihood      {seconds:.4} s{unit} for its value and gradient, {:.1} % of a step  ({})\n",
                100.0 * seconds / of,
                result.likelihood_name
            );
        }
    }
    if let Some(bytes) = timing.peak_bytes {
        text += &format!("peak memory     {:.0} MiB\n", mebibytes(bytes));
    }
    if let Some(pytorch) = &result.pytorch {
        text += &format!(
            "PyTorch {} {}  {:.4} s, {:.0} MiB; ours takes {:.2} times as long\n",
            pytorch.version,
            pytorch.form,
            pytorch.seconds_per_step,
            mebibytes(pytorch.peak_bytes),
            pytorch.times_pytorch
        );
    }
    text
}
