//! What settings are: choices of a few words, devices, intervals.

mod backends;
mod checkpoint_interval;
mod choice;
mod choices;
mod devices;

pub use backends::DeviceChoice;
pub use checkpoint_interval::CheckpointInterval;
pub use choice::UnknownChoice;
pub use choices::*;
pub use devices::Devices;
