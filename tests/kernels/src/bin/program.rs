//! The trainer's program with the GPU backends of this workspace.

use std::process::ExitCode;

use clap::Parser;
use trainer::commands::Arguments;

fn main() -> ExitCode {
    match Arguments::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
