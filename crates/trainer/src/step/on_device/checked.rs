//! What becomes of a device's failure.

use vae_device_step::StepError;

/// A device's failure is a panic, as of Burn's own operations: nothing in this process can use the device again.
pub(super) fn checked<T>(result: Result<T, StepError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
