//! The command-line program; all it does is in the library.

#![deny(unsafe_code)]

mod allocator;

use std::io::Write;
use std::process::ExitCode;

use trainer::TrainerError;
use trainer::commands::Arguments;

// A training step allocates and frees hundreds of megabytes; glibc gives them back to the system each time.
#[global_allocator]
static ALLOCATOR: allocator::Allocator = allocator::Allocator;

fn main() -> ExitCode {
    match Arguments::of_process().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ TrainerError::Said { .. }) => ExitCode::from(error.exit_code()),
        Err(error) => {
            // `eprintln!` would panic where the terminal is gone.
            let _ = std::io::stderr().write_all(format!("error: {error}\n").as_bytes());
            ExitCode::from(error.exit_code())
        }
    }
}
