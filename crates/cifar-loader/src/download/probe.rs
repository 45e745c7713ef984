//! How fast a mirror is, found out with the first bytes of its file.

use std::io::Read;
use std::time::{Duration, Instant};

use ureq::http::header;

use crate::container::extract::{describe, is_gzip};
use crate::download::download_options::DownloadOptions;
use crate::download::response::request_reason;
use crate::download::transfer::agent;

/// Bytes asked for: a second's worth of a mirror that is just fast enough.
const BYTES: u64 = 1 << 18;

/// What a mirror answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Time from the request to the first byte.
    pub delay: Duration,
    /// Bytes a second after that, over what arrived in time.
    pub bytes_per_second: f64,
}

/// Asks a mirror for the first 256 kilobytes of its file and throws them away; takes `limit` at most.
///
/// A mirror that is too slow for them all is not refused: its rate says so.
///
/// # Errors
/// Why it is of no use, in one line: unreachable, another status than success, something other than gzip.
pub fn probe(url: &str, limit: Duration) -> Result<Probe, String> {
    let start = Instant::now();
    let options = DownloadOptions {
        connect_timeout: limit,
        stall_timeout: limit,
        ..Default::default()
    };
    let mut response = agent(url, &options)
        .get(url)
        .header(header::RANGE, format!("bytes=0-{}", BYTES - 1))
        .config()
        .timeout_global(Some(limit))
        .build()
        .call()
        .map_err(|error| request_reason(&error))?;
    if !response.status().is_success() {
        return Err(format!("HTTP {}", response.status()));
    }
    let mut reader = response.body_mut().as_reader().take(BYTES);
    let mut buffer = vec![0; 16 * 1024];
    let mut head = Vec::new();
    let mut received = 0;
    let mut first = None;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                first.get_or_insert_with(Instant::now);
                received += count;
                if head.len() < 2 {
                    head.extend_from_slice(&buffer[..count]);
                }
            }
            // Out of time: what arrived tells the rate.
            Err(_) if received > 0 => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    if !is_gzip(&head) {
        return Err(format!("sends {}", describe(&head)));
    }
    let first = first.unwrap_or(start);
    let seconds = first.elapsed().as_secs_f64().max(1e-3);
    Ok(Probe {
        delay: first - start,
        bytes_per_second: received as f64 / seconds,
    })
}
