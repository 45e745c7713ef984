//! The commands of the program, one a file.

mod bench;
mod conclusion;
mod error;
mod evaluate;
mod finished_run;
mod gpu_check;
mod latents;
mod number_argument;
mod output;
mod path_argument;
mod pictures;
mod report;
mod self_test;
mod summary;
mod train;
mod verify_run;

pub use error::TrainerError;

use bench::{bench_depths, bench_step};
use pictures::{fid, interpolate, reconstruct, sample, sample_statistics, traverse};

use clap::{Parser, Subcommand};

use crate::device::with_failures_as_errors;
use crate::ranks::launcher;

const EXIT_CODES: &str = "\
Exit codes:
  0   done, or stopped early by the stopping rule
  2   a flag, a setting, or a run folder that cannot be used
  10  network    11  checksum    12  data set
  20  checkpoint 21  disk full, or a file that cannot be written
  30  training diverged: ten steps in a row were not finite
  31  out of memory               32  the device was lost, or cannot be used
  33  another rank was lost
  130, 143  stopped by SIGINT, or by SIGTERM, SIGHUP or SIGUSR2, with a checkpoint
  40  runs of bench-depths failed; its tables hold the others
  1   parts of gpu-check failed; its results hold the others. Checks of self-test failed";

/// Trains ResNet variational autoencoders on CIFAR-10.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, after_help = EXIT_CODES, args_override_self = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model and write its run folder; `--preset demo` needs no data, no network and about two minutes
    Train(Box<run_files::settings::TrainFlags>),
    /// Draw images from a trained model's prior
    Sample(sample::SampleFlags),
    /// Score a trained model on a split
    Evaluate(evaluate::EvaluateFlags),
    /// Measure what the latents tell about the images, and draw what the decoder makes of them
    Latents(latents::LatentsFlags),
    /// Draw the decoder's pictures along each of the most used latent dimensions
    Traverse(traverse::TraverseFlags),
    /// Draw the decoder's pictures from one test image to another
    Interpolate(interpolate::InterpolateFlags),
    /// Encode and decode one picture with a trained model
    Reconstruct(reconstruct::ReconstructFlags),
    /// Compare drawn images with real ones: sharpness, colours, copies
    SampleStatistics(sample_statistics::SampleStatisticsFlags),
    /// Fréchet Inception distance of drawn images from a split's, by pytorch-fid's protocol; takes the weights as a file
    Fid(fid::FidFlags),
    /// Bound a model whose likelihood is known: ELBO <= importance-weighted bounds <= log p
    SelfTest(self_test::SelfTestFlags),
    /// Check every file of a run: hashes, manifests, tensors, metrics
    VerifyRun(verify_run::VerifyRunFlags),
    /// Write a finished run's report: one page of HTML that opens offline
    Report(report::ReportFlags),
    /// Print layers, parameters, arithmetic and memory of a model
    Summary(summary::SummaryFlags),
    /// Time a training step, phase by phase, and beside PyTorch's
    BenchStep(bench_step::BenchStepFlags),
    /// Train every depth with several seeds and compare them in tables and a report; a stopped sweep is resumed
    BenchDepths(Box<bench_depths::BenchDepthsFlags>),
    /// Check and time a GPU within a budget of seconds: parity, determinism, steps, memory; continues after a failed part
    GpuCheck(gpu_check::GpuCheckFlags),
}

impl Arguments {
    /// Those that this process was given. Where they are wrong, it ends with clap's message, which of several ranks the first one alone prints.
    pub fn of_process() -> Self {
        Self::try_parse().unwrap_or_else(|error| {
            let environment = |name: &str| std::env::var(name).ok();
            if launcher::has_started_ranks(&environment) && launcher::rank(&environment) != 0 {
                std::process::exit(error.exit_code());
            }
            error.exit()
        })
    }

    /// Runs the command.
    ///
    /// # Errors
    /// What the command reports; [`TrainerError::exit_code`] is the program's exit code then.
    pub fn run(self) -> Result<(), TrainerError> {
        // A run goes on although nobody reads its progress any more; every other command ends with its reader.
        #[cfg(unix)]
        if !matches!(
            self.command,
            Command::Train(_) | Command::BenchDepths(_) | Command::GpuCheck(_)
        ) {
            end_with_the_reader();
        }
        with_failures_as_errors(|| self.command.run())
    }
}

impl Command {
    fn run(self) -> Result<(), TrainerError> {
        match self {
            Command::Train(flags) => train::run(&flags),
            Command::Sample(flags) => sample::run(&flags),
            Command::Evaluate(flags) => evaluate::run(&flags),
            Command::Latents(flags) => latents::run(&flags),
            Command::Traverse(flags) => traverse::run(&flags),
            Command::Interpolate(flags) => interpolate::run(&flags),
            Command::SampleStatistics(flags) => sample_statistics::run(&flags),
            Command::Fid(flags) => fid::run(&flags),
            Command::SelfTest(flags) => self_test::run(&flags),
            Command::Reconstruct(flags) => reconstruct::run(&flags),
            Command::VerifyRun(flags) => verify_run::run(&flags),
            Command::Report(flags) => report::run(&flags),
            Command::Summary(flags) => summary::run(&flags),
            Command::BenchStep(flags) => bench_step::run(&flags),
            Command::BenchDepths(flags) => bench_depths::run(&flags),
            Command::GpuCheck(flags) => gpu_check::run(&flags),
        }
    }
}

/// Ends the process quietly, as other programs do, when `| head` has seen enough; `println!` would panic.
#[cfg(unix)]
fn end_with_the_reader() {
    use signal_hook::consts::SIGPIPE;
    let always = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    // Without the handler the command still does its work.
    let _ = signal_hook::flag::register_conditional_shutdown(SIGPIPE, 128 + SIGPIPE, always);
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    use crate::timing::pytorch_timing::PytorchForm;

    #[test]
    fn help_names_every_device_and_every_form() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for command in command.get_subcommands() {
            for argument in command.get_arguments() {
                let help = argument
                    .get_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                let name = command.get_name();
                match argument.get_id().as_str() {
                    "device" => assert!(
                        ["flex", "cuda:", "vulkan:"]
                            .iter()
                            .all(|device| help.contains(device)),
                        "{name}: {help}"
                    ),
                    "pytorch_forms" => assert!(
                        PytorchForm::NAMES.iter().all(|form| help.contains(form)),
                        "{name}: {help}"
                    ),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn flags_that_would_do_nothing_are_refused() {
        let parse = |words: &str| Arguments::try_parse_from(words.split(' '));
        for words in [
            "xtask bench-step --rounds 5",
            "xtask bench-step --pytorch-forms compiled",
            "xtask bench-step --steps 0",
            "xtask interpolate --run-dir r --out i.png --columns 1",
            "xtask sample --run-dir r --out -",
            "xtask traverse --run-dir r --out t.jpg",
            "xtask traverse --run-dir r --out missing/folder/t.png",
        ] {
            let refused = parse(words)
                .err()
                .unwrap_or_else(|| panic!("{words} is taken"));
            assert_eq!(refused.exit_code(), 2, "{refused}");
        }
        let refused = parse("xtask evaluate --run-dir r --batch-size 0").err();
        let text = refused.expect("refused").to_string();
        assert!(
            text.contains("expected an integer from 1 to 50000"),
            "{text}"
        );
        for words in [
            "xtask bench-step",
            "xtask bench-step --against-pytorch python3 --rounds 5 --pytorch-forms compiled",
            "xtask traverse --run-dir r --out t.png",
        ] {
            assert!(parse(words).is_ok(), "{words}");
        }
    }
}
