//! How to download, and from where.

use std::time::Duration;

/// Where the publisher's container is found. The first is the publisher's own server, often slow; the second a copy.
pub const MIRRORS: &[&str] = &[
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/cifar-10-binary.tar.gz",
];

/// Name of the environment variable that replaces [`MIRRORS`] by a list separated by commas.
pub const MIRRORS_VARIABLE: &str = "CIFAR10_MIRRORS";

/// How to download.
#[derive(Clone, Debug, PartialEq)]
pub struct DownloadOptions {
    /// Addresses in the order of trying. Plain `http://` is used only where it is written out here.
    pub mirrors: Vec<String>,
    /// Tries at a mirror without progress before the next one; 4 by default.
    pub attempts: u32,
    /// Pause before the second try, doubled each time up to a minute; 1 second by default.
    pub backoff: Duration,
    /// Limit on looking up a name and on connecting; 15 seconds by default.
    pub connect_timeout: Duration,
    /// A connection that sends nothing for so long is given up; 30 seconds by default.
    pub stall_timeout: Duration,
    /// Bytes a second below which a mirror counts as slow; 200,000 by default.
    pub slow_bytes_per_second: f64,
    /// How long a mirror must be slow; 10 seconds by default.
    pub slow_window: Duration,
    /// How long to wait for another process that downloads into the same folder; 2 hours by default.
    pub lock_patience: Duration,
}

impl Default for DownloadOptions {
    /// The built-in [`MIRRORS`]; the environment is not read.
    fn default() -> Self {
        Self {
            mirrors: MIRRORS.iter().map(|url| (*url).to_owned()).collect(),
            attempts: 4,
            backoff: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(30),
            slow_bytes_per_second: 200_000.0,
            slow_window: Duration::from_secs(10),
            lock_patience: Duration::from_secs(2 * 60 * 60),
        }
    }
}

/// The mirrors that `CIFAR10_MIRRORS` lists, or the built-in ones when it is unset or empty.
pub fn mirrors_from_environment() -> Vec<String> {
    let listed = std::env::var(MIRRORS_VARIABLE).unwrap_or_default();
    let listed: Vec<_> = listed
        .split(',')
        .map(str::trim)
        .filter(|url| !url.is_empty())
        .map(str::to_owned)
        .collect();
    if listed.is_empty() {
        DownloadOptions::default().mirrors
    } else {
        listed
    }
}
