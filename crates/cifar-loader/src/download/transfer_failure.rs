//! Why a transfer ended early, and what that says about the mirror.

use std::time::Duration;

use crate::error::Error;

/// Redirects that are followed.
pub(crate) const MAX_REDIRECTS: u32 = 5;

/// How a try ended without the whole container.
pub(crate) enum Failure {
    /// Worth another try at the same mirror.
    Transient {
        reason: String,
        retry_after: Option<Duration>,
    },
    /// Another try would end the same way.
    Permanent { reason: String },
    /// The mirror sends something that is no archive.
    Content(Error),
    /// Left for a faster mirror.
    Slow { rate: f64 },
    /// Nothing to do with the mirror, such as a full disk.
    Local(Error),
}

pub(crate) fn transient(reason: String) -> Failure {
    Failure::Transient {
        reason,
        retry_after: None,
    }
}
