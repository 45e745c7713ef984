//! The project's one entry point: `cargo xtask COMMAND`.
//!
//! It gets the data itself and hands everything else to the trainer's program, which it builds when needed. It links no
//! Burn, so that it compiles in seconds.

#![forbid(unsafe_code)]

mod build;
mod doctor;
mod download;
mod faults;
mod fuzzing;
mod output;
mod path_argument;
mod ranks;
mod sanitize;
mod trainer;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0   done            2   usage or settings     10  network        11  checksum
  12  data set        20  checkpoint            21  disk or file   30  diverged
  31  out of memory   32  device missing, lost  33  another rank was lost
  40  runs of bench-depths failed               130, 143  stopped by SIGINT or SIGTERM
  1   anything else, a failed build among them";

/// Train ResNet variational autoencoders on CIFAR-10, at any depth.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, after_help = EXIT_CODES, args_override_self = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Download(download::DownloadArgs),
    /// Train a model and write its run folder; `--preset demo` needs no data, no network and about two minutes
    #[command(disable_help_flag = true)]
    Train(Forwarded),
    /// Draw images from a trained model's prior
    #[command(disable_help_flag = true)]
    Sample(Forwarded),
    /// Score a trained model on a split
    #[command(disable_help_flag = true)]
    Evaluate(Forwarded),
    /// Measure what the latents tell about the images, and draw what the decoder makes of them
    #[command(disable_help_flag = true)]
    Latents(Forwarded),
    /// Draw the decoder's pictures along each of the most used latent dimensions
    #[command(disable_help_flag = true)]
    Traverse(Forwarded),
    /// Draw the decoder's pictures from one test image to another
    #[command(disable_help_flag = true)]
    Interpolate(Forwarded),
    /// Compare drawn images with real ones: sharpness, colours, copies
    #[command(disable_help_flag = true)]
    SampleStatistics(Forwarded),
    /// Fréchet Inception distance of drawn images from a split's, by pytorch-fid's protocol; takes the weights as a file
    #[command(disable_help_flag = true)]
    Fid(Forwarded),
    /// Bound a model whose likelihood is known: ELBO <= importance-weighted bounds <= log p
    #[command(disable_help_flag = true)]
    SelfTest(Forwarded),
    /// Encode and decode one picture with a trained model
    #[command(disable_help_flag = true)]
    Reconstruct(Forwarded),
    /// Check every file of a run: hashes, manifests, tensors, metrics
    #[command(disable_help_flag = true)]
    VerifyRun(Forwarded),
    /// Write a finished run's report: one page of HTML that opens offline
    #[command(disable_help_flag = true)]
    Report(Forwarded),
    /// Print layers, parameters, arithmetic and memory of a model
    #[command(disable_help_flag = true)]
    Summary(Forwarded),
    /// Time a training step, phase by phase, and beside PyTorch's
    #[command(disable_help_flag = true)]
    BenchStep(Forwarded),
    Faults(faults::FaultsArgs),
    Sanitize(sanitize::SanitizeArgs),
    Doctor(doctor::DoctorArgs),
    /// Train every depth with several seeds and compare them in tables and a report; a stopped sweep is resumed
    #[command(disable_help_flag = true)]
    BenchDepths(Forwarded),
    /// Check and time a GPU within a budget of seconds: parity, determinism, steps, memory; continues after a failed part
    #[command(disable_help_flag = true)]
    GpuCheck(Forwarded),
}

/// Flags that the trainer's program knows; `--help` lists them.
#[derive(Args)]
struct Forwarded {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<OsString>,
}

fn main() -> ExitCode {
    let arguments = with_help_of_commands(std::env::args_os().collect());
    let (name, forwarded) = match Arguments::parse_from(arguments).command {
        Command::Download(flags) => {
            return match download::run(flags) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    let _ = writeln!(std::io::stderr(), "error: {error:#}");
                    ExitCode::from(download::exit_code(&error))
                }
            };
        }
        Command::Doctor(flags) => return code_of(doctor::run(&flags)),
        Command::Faults(flags) => return code_of(faults::run(&flags)),
        Command::Sanitize(_) => return code_of(sanitize::run()),
        Command::Train(forwarded) => ("train", forwarded),
        Command::Sample(forwarded) => ("sample", forwarded),
        Command::Evaluate(forwarded) => ("evaluate", forwarded),
        Command::Latents(forwarded) => ("latents", forwarded),
        Command::Traverse(forwarded) => ("traverse", forwarded),
        Command::Interpolate(forwarded) => ("interpolate", forwarded),
        Command::SampleStatistics(forwarded) => ("sample-statistics", forwarded),
        Command::Fid(forwarded) => ("fid", forwarded),
        Command::SelfTest(forwarded) => ("self-test", forwarded),
        Command::Reconstruct(forwarded) => ("reconstruct", forwarded),
        Command::VerifyRun(forwarded) => ("verify-run", forwarded),
        Command::Report(forwarded) => ("report", forwarded),
        Command::Summary(forwarded) => ("summary", forwarded),
        Command::BenchStep(forwarded) => ("bench-step", forwarded),
        Command::BenchDepths(forwarded) => ("bench-depths", forwarded),
        Command::GpuCheck(forwarded) => ("gpu-check", forwarded),
    };
    code_of(trainer::run(name, &forwarded.flags))
}

/// `help COMMAND` as `COMMAND --help`: of the trainer's commands only the trainer knows the flags.
fn with_help_of_commands(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if let [_, help, _] = &arguments[..]
        && help == "help"
    {
        arguments.remove(1);
        arguments.push("--help".into());
    }
    arguments
}

/// The command's own code, or that of a failure, which is told.
fn code_of(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
        if error.is::<output::OutputError>() {
            ExitCode::from(output::UNWRITABLE)
        } else {
            ExitCode::FAILURE
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn help_of_a_command_is_asked_where_its_flags_are_known() {
        let given = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let asked = with_help_of_commands(given(&["cargo xtask", "help", "train"]));
        assert_eq!(asked, given(&["cargo xtask", "train", "--help"]));
        let Command::Train(forwarded) = Arguments::parse_from(asked).command else {
            panic!("another command");
        };
        assert_eq!(forwarded.flags, ["--help"]);
        for words in [
            &["cargo xtask", "help"][..],
            &["cargo xtask", "train", "help"],
        ] {
            assert_eq!(with_help_of_commands(given(words)), given(words));
        }
    }

    #[test]
    fn the_program_tells_its_version_and_every_exit_code() {
        let command = Arguments::command();
        command.clone().debug_assert();
        assert!(command.get_version().is_some());
        for code in [0, 1, 2, 10, 11, 12, 20, 21, 30, 31, 32, 33, 40, 130, 143] {
            let code = code.to_string();
            let mut words = EXIT_CODES.split([' ', ',', '\n']);
            assert!(words.any(|word| word == code), "no {code}");
        }
    }
}
