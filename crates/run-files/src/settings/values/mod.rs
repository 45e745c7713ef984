//! What settings are: choices of a few words, devices, intervals.

mod backends;
mod checkpoint_interval;
mod choices;
mod devices;

pub use crate::choice::UnknownChoice;
pub use backends::DeviceChoice;
pub use checkpoint_interval::CheckpointInterval;
pub use choices::*;
pub use devices::Devices;
