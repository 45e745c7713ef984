//! The same step in PyTorch, timed by the script in `benches/`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::error::TimingError;
use crate::timing::step_timing::TimingOptions;
use run_files::choice;
use run_files::settings::{Precision, Settings};

/// Read by Python from its standard input, so that the program needs no file of the workspace.
const SCRIPT: &str = include_str!("../../../../benches/torch_step.py");

choice! {
    /// How PyTorch runs the model.
    PytorchForm {
        /// Channels last in memory.
        ChannelsLast = "channels-last",
        /// Contiguous, that is, channels before pixels.
        Contiguous = "contiguous",
        /// By `torch.compile`, channels last.
        Compiled = "compiled",
        /// The same with `mode="reduce-overhead"`, which replays CUDA graphs.
        Replayed = "reduce-overhead",
    }
}

impl PytorchForm {
    /// What the script is asked for.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::ChannelsLast => &[],
            Self::Contiguous => &["--layout", "contiguous"],
            Self::Compiled => &["--compile"],
            Self::Replayed => &["--compile", "--mode", "reduce-overhead"],
        }
    }
}

/// What the script measured.
#[derive(Clone, Debug, Deserialize)]
pub struct PytorchTiming {
    /// PyTorch's.
    pub version: String,
    /// Median of whole steps.
    pub seconds_per_step: f64,
    /// The process's largest resident memory, or the device's largest allocated memory on a GPU.
    pub peak_bytes: u64,
}

/// Times the model of `settings` in PyTorch.
///
/// # Errors
/// Where `python` cannot be run, has no PyTorch, or PyTorch fails.
pub fn time_pytorch(
    python: &Path,
    settings: &Settings,
    options: TimingOptions,
    form: PytorchForm,
    threads: usize,
) -> Result<PytorchTiming, TimingError> {
    let widths: Vec<String> = settings
        .stage_widths()
        .iter()
        .map(ToString::to_string)
        .collect();
    let device = settings.device.main().to_string();
    let device = if device.starts_with("cuda") {
        device.as_str()
    } else {
        "cpu"
    };
    let numbers = [
        ("--depth", settings.depth as usize),
        ("--intermediate", settings.intermediate_dim),
        ("--latent", settings.latent_dim),
        ("--batch", settings.batch_size),
        ("--steps", options.steps),
        ("--warmup", options.warmup),
        ("--threads", threads),
    ];
    let mut command = Command::new(python);
    command.args(["-", "--widths", &widths.join(","), "--device", device]);
    command.args(form.arguments());
    for (name, value) in numbers {
        command.args([name, &value.to_string()]);
    }
    if settings.precision == Precision::Bf16 {
        command.arg("--bf16");
    }
    if options.is_evaluation {
        command.arg("--forward-only");
    }
    let failed = |reason: String| TimingError::Pytorch { reason };
    let not_run = |error: std::io::Error| failed(format!("{}: {error}", python.display()));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(not_run)?;
    if let Some(mut input) = child.stdin.take() {
        // A Python that ends early says why on its standard error.
        let _ = input.write_all(SCRIPT.as_bytes());
    }
    let output = child.wait_with_output().map_err(not_run)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let result = text
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok());
    result.ok_or_else(|| {
        let messages = String::from_utf8_lossy(&output.stderr);
        failed(
            messages
                .lines()
                .last()
                .unwrap_or("it printed nothing")
                .to_owned(),
        )
    })
}

/// Threads both sides use.
pub(crate) fn threads() -> usize {
    let asked = std::env::var("RAYON_NUM_THREADS")
        .ok()
        .and_then(|threads| threads.parse().ok());
    asked
        .filter(|threads| *threads > 0)
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_by_the_name_it_prints() {
        for (form, name) in PytorchForm::ALL.iter().zip(PytorchForm::NAMES) {
            assert_eq!(name.parse(), Ok(*form));
            assert_eq!(form.to_string(), *name);
        }
        let error = "nchw".parse::<PytorchForm>().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("channels-last, contiguous, compiled")
        );
    }
}
