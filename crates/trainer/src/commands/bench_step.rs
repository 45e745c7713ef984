use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::device::open_device;
use crate::error::TrainerError;
use crate::settings::{Settings, TrainFlags, resolve};
use crate::step_timing::{StepTiming, median, time_steps};

#[derive(clap::Args)]
pub(super) struct BenchStepFlags {
    /// 28, 40, 70 or 100
    #[arg(long, value_name = "N", default_value = "28")]
    depth: String,
    /// Multiplier of the stage widths and the intermediate dimension
    #[arg(long, value_name = "W", default_value = "0.125")]
    width: String,
    /// Dimensions of the latent
    #[arg(long, value_name = "Z", default_value = "64")]
    latent_dim: String,
    /// Images a step
    #[arg(long, value_name = "B", default_value = "25")]
    batch_size: String,
    /// f32 or bf16
    #[arg(long, value_name = "NAME", default_value = "f32")]
    precision: String,
    /// Compute each block again in the backward pass
    #[arg(long)]
    gradient_checkpointing: bool,
    /// flex, ndarray or cuda:N
    #[arg(long, value_name = "X", default_value = "flex")]
    device: String,
    /// Steps that count, after the warm-up
    #[arg(long, value_name = "N", default_value_t = 20)]
    steps: usize,
    /// Steps before those that count
    #[arg(long, value_name = "N", default_value_t = 5)]
    warmup: usize,
    /// Times the same model in PyTorch too, in turn, with this Python
    #[arg(long, value_name = "PATH_TO_PYTHON")]
    against_pytorch: Option<PathBuf>,
    /// Rounds of both in turn, with --against-pytorch
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(flags: &BenchStepFlags) -> Result<(), TrainerError> {
    let training = TrainFlags {
        depth: Some(flags.depth.clone()),
        width: Some(flags.width.clone()),
        latent_dim: Some(flags.latent_dim.clone()),
        batch_size: Some(flags.batch_size.clone()),
        device: Some(flags.device.clone()),
        precision: Some(flags.precision.clone()),
        gradient_checkpointing: flags.gradient_checkpointing,
        ..TrainFlags::default()
    };
    // No setting of the environment: a benchmark is what its command says.
    let settings = resolve(&training, &|_| None)?.settings;
    let device = open_device(settings.device.main())?;
    let steps = flags.steps.max(1);
    let rounds = if flags.against_pytorch.is_some() {
        flags.rounds.max(1)
    } else {
        1
    };

    let mut ours: Vec<StepTiming> = Vec::new();
    let mut theirs: Vec<Value> = Vec::new();
    for _ in 0..rounds {
        ours.push(time_steps(&settings, flags.warmup, steps, &device)?);
        if let Some(python) = &flags.against_pytorch {
            theirs.push(time_pytorch(python, &settings, flags.warmup, steps)?);
        }
    }
    // The round in the middle stands for all.
    ours.sort_by(|a, b| a.seconds_per_step.total_cmp(&b.seconds_per_step));
    let timing = &ours[ours.len() / 2];
    let mut result = json!(timing);
    result["device"] = json!(settings.device.main().to_string());
    result["depth"] = json!(settings.depth);
    result["width"] = json!(settings.width);
    result["precision"] = json!(settings.precision);
    result["gradient_checkpointing"] = json!(settings.gradient_checkpointing);
    result["batch_size"] = json!(settings.batch_size);
    result["threads"] = json!(threads());
    if !theirs.is_empty() {
        let seconds: Vec<f64> = theirs
            .iter()
            .filter_map(|round| round["seconds_per_step"].as_f64())
            .collect();
        let ratio = timing.seconds_per_step / median(&seconds);
        result["pytorch"] = json!({
            "seconds_per_step": median(&seconds),
            "version": theirs[0]["version"],
            "peak_bytes": theirs[0]["peak_bytes"],
            "times_pytorch": ratio,
        });
    }
    if flags.json {
        println!("{result:#}");
    } else {
        print(timing, &result);
    }
    Ok(())
}

fn print(timing: &StepTiming, result: &Value) {
    println!(
        "a step          {:.4} s  ({:.4} to {:.4}, {} steps)",
        timing.seconds_per_step, timing.fastest, timing.slowest, timing.steps
    );
    println!("images          {:.1} a second", timing.images_per_second);
    let phases = timing.phases;
    println!(
        "data {:.4}, forward {:.4}, backward {:.4}, optimizer {:.4} s",
        phases.data_seconds,
        phases.forward_seconds,
        phases.backward_seconds,
        phases.optimizer_seconds
    );
    if let Some(bytes) = timing.peak_bytes {
        println!(
            "peak memory     {:.0} MiB",
            bytes as f64 / (1u64 << 20) as f64
        );
    }
    if let Some(pytorch) = result.get("pytorch") {
        println!(
            "PyTorch {}  {:.4} s; ours takes {:.2} times as long",
            pytorch["version"].as_str().unwrap_or("?"),
            pytorch["seconds_per_step"].as_f64().unwrap_or(f64::NAN),
            pytorch["times_pytorch"].as_f64().unwrap_or(f64::NAN)
        );
    }
}

/// Threads both sides use.
fn threads() -> usize {
    let asked = std::env::var("RAYON_NUM_THREADS")
        .ok()
        .and_then(|threads| threads.parse().ok());
    asked
        .filter(|threads| *threads > 0)
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn time_pytorch(
    python: &Path,
    settings: &Settings,
    warmup: usize,
    steps: usize,
) -> Result<Value, TrainerError> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/torch_step.py");
    let widths: Vec<String> = settings
        .stage_widths()
        .iter()
        .map(ToString::to_string)
        .collect();
    let device = settings.device.main().to_string();
    let output = Command::new(python)
        .arg(&script)
        .args([
            "--depth",
            &settings.depth.to_string(),
            "--widths",
            &widths.join(","),
        ])
        .args([
            "--intermediate",
            &settings.intermediate_dim.to_string(),
            "--latent",
            &settings.latent_dim.to_string(),
        ])
        .args([
            "--batch",
            &settings.batch_size.to_string(),
            "--steps",
            &steps.to_string(),
        ])
        .args([
            "--warmup",
            &warmup.to_string(),
            "--threads",
            &threads().to_string(),
        ])
        .args([
            "--device",
            if device.starts_with("cuda") {
                &device
            } else {
                "cpu"
            },
        ])
        .output()
        .map_err(|error| TrainerError::Pytorch {
            reason: format!("{}: {error}", python.display()),
        })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let result = text
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok());
    result.ok_or_else(|| {
        let messages = String::from_utf8_lossy(&output.stderr);
        TrainerError::Pytorch {
            reason: messages
                .lines()
                .last()
                .unwrap_or("it printed nothing")
                .to_owned(),
        }
    })
}
