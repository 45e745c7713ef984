//! What can be done with a finished run.

mod evaluation;
mod json_outputs;
mod latent_commands;
mod lost_files;
mod pictures;
mod report;
mod verify;
