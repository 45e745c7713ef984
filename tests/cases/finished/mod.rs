//! What can be done with a finished run.

mod evaluation;
mod latent_commands;
mod pictures;
mod report;
mod verify;
