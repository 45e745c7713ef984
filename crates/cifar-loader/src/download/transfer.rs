//! One request to one mirror, appended to the partial file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use ureq::http::{StatusCode, header};

use crate::container::extract::{describe, is_gzip};
use crate::download::download_options::DownloadOptions;
use crate::download::lock::remove_link;
use crate::download::progress::{Event, Meter};
use crate::download::response::{content_range, number, request_failure, status_failure};
use crate::download::transfer_failure::{Failure, MAX_REDIRECTS, transient};
use crate::error::Error;

/// Time between two progress events.
const EVENT_INTERVAL: Duration = Duration::from_millis(100);

/// What one mirror has said about the object it serves.
#[derive(Default)]
pub(crate) struct Remote {
    /// Strong validator of the object.
    entity_tag: Option<String>,
    /// Bytes of the whole object.
    total: Option<u64>,
}

impl Remote {
    /// Whether the mirror has said how long the object is.
    pub(crate) fn has_total(&self) -> bool {
        self.total.is_some()
    }
}

/// What a try may and may not do.
pub(crate) struct TransferLimits<'a> {
    pub(crate) options: &'a DownloadOptions,
    /// Bytes of the publisher's container, where known.
    pub(crate) known_total: Option<u64>,
    /// The most bytes that are written.
    pub(crate) max_bytes: u64,
    /// The mirror to go to when this one is slow.
    pub(crate) next: Option<&'a str>,
    /// Whether a slow mirror has already been announced.
    pub(crate) is_slow_announced: bool,
}

/// An agent for `url`, which follows redirects but never from https to http.
pub(crate) fn agent(url: &str, options: &DownloadOptions) -> ureq::Agent {
    ureq::Agent::config_builder()
        .https_only(!url.starts_with("http://"))
        .http_status_as_error(false)
        .max_redirects(MAX_REDIRECTS)
        .accept_encoding("identity")
        .user_agent(concat!("cifar-loader/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(options.connect_timeout))
        .timeout_connect(Some(options.connect_timeout))
        .timeout_recv_response(Some(options.stall_timeout))
        .timeout_per_read(Some(options.stall_timeout))
        .build()
        .into()
}

/// Asks for what is missing of `partial` and appends it; `Ok` when the container is complete as far as can be told.
pub(crate) fn fetch_rest(
    agent: &ureq::Agent,
    url: &str,
    partial: &Path,
    remote: &mut Remote,
    limits: &mut TransferLimits<'_>,
    attempt: u32,
    progress: &mut dyn FnMut(&Event<'_>),
) -> Result<(), Failure> {
    let mut file = open_partial(partial).map_err(Failure::Local)?;
    let mut offset = file
        .seek(SeekFrom::End(0))
        .map_err(|source| local(partial, source))?;
    let known_total = remote.total.or(limits.known_total);
    if offset > limits.max_bytes || known_total.is_some_and(|total| offset > total) {
        truncate(&mut file, partial)?;
        offset = 0;
    }
    if offset > 0 && known_total == Some(offset) {
        return Ok(());
    }
    progress(&Event::Connecting {
        url,
        attempt,
        resume_from: offset,
    });
    let mut request = agent.get(url);
    if offset > 0 {
        request = request.header(header::RANGE, format!("bytes={offset}-"));
        if let Some(tag) = &remote.entity_tag {
            request = request.header(header::IF_RANGE, tag);
        }
    }
    let response = request.call().map_err(request_failure)?;
    let headers = response.headers();
    match response.status() {
        StatusCode::OK => {
            if offset > 0 {
                progress(&Event::Restarting {
                    url,
                    reason: "the server sends the file from its start",
                });
                // What is there goes when the first bytes prove to be an archive's, and not a login page's.
                offset = 0;
            }
            remote.total = number(headers, header::CONTENT_LENGTH);
        }
        StatusCode::PARTIAL_CONTENT => {
            let range = content_range(headers);
            let fits = range.is_some_and(|(start, total)| {
                start == offset
                    && total.is_none_or(|total| known_total.is_none_or(|known| known == total))
            });
            if !fits {
                return discard(
                    &mut file,
                    partial,
                    url,
                    remote,
                    "the server sent another range or size",
                    progress,
                );
            }
            remote.total = range.and_then(|(_, total)| total).or(remote.total);
        }
        StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => {
            return discard(
                &mut file,
                partial,
                url,
                remote,
                "the server has no such range",
                progress,
            );
        }
        status => return Err(status_failure(status, headers)),
    }
    remote.entity_tag = headers
        .get(header::ETAG)
        .and_then(|tag| tag.to_str().ok())
        .filter(|tag| tag.starts_with('"'))
        .map(str::to_owned);
    if let Some(total) = remote.total.filter(|total| *total > limits.max_bytes) {
        let reason = format!(
            "offers {total} bytes, expected at most {}",
            limits.max_bytes
        );
        return Err(Failure::Permanent { reason });
    }
    let mut body = response.into_body().into_reader();
    receive(
        &mut body,
        &mut file,
        url,
        partial,
        offset,
        remote.total,
        limits,
        progress,
    )
}

/// Copies the body to the end of the partial file.
#[expect(
    clippy::too_many_arguments,
    reason = "one loop with all that it watches"
)]
fn receive(
    body: &mut impl Read,
    file: &mut File,
    url: &str,
    partial: &Path,
    mut offset: u64,
    total: Option<u64>,
    limits: &mut TransferLimits<'_>,
    progress: &mut dyn FnMut(&Event<'_>),
) -> Result<(), Failure> {
    let options = limits.options;
    let start = Instant::now();
    let mut last_event = start;
    let mut shown = Meter::new(Duration::from_secs(10), start, offset);
    let mut watched = Meter::new(options.slow_window, start, offset);
    let mut buffer = vec![0; 64 * 1024];
    // The first bytes tell an error page from an archive before anything is written.
    let mut head = Vec::new();
    loop {
        let count = match body.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(transient(format!("{error} after {offset} bytes"))),
        };
        let mut bytes = &buffer[..count];
        if offset == 0 {
            head.extend_from_slice(bytes);
            if head.len() < 2 && count > 0 {
                continue;
            }
            if !is_gzip(&head) {
                return Err(Failure::Content(Error::NotGzip {
                    path: url.into(),
                    found: describe(&head),
                }));
            }
            truncate(file, partial)?;
            bytes = &head;
        }
        if offset.saturating_add(bytes.len() as u64) > limits.max_bytes {
            let reason = format!("sends more than {} bytes", limits.max_bytes);
            return Err(Failure::Permanent { reason });
        }
        file.write_all(bytes)
            .map_err(|source| local(partial, source))?;
        offset += bytes.len() as u64;

        let now = Instant::now();
        let is_end = count == 0;
        if now.duration_since(last_event) >= EVENT_INTERVAL || is_end {
            last_event = now;
            shown.record(now, offset);
            watched.record(now, offset);
            let left = total.map(|total| total.saturating_sub(offset));
            let (rate, time_left) = (shown.rate(), shown.time_left(left));
            progress(&Event::Transfer {
                url,
                bytes: offset,
                total,
                rate,
                time_left,
            });
            // Near the end even a slow mirror is done before another one has begun.
            let ends_soon = watched
                .time_left(left)
                .is_some_and(|time| time < options.slow_window);
            let is_watched =
                !is_end && !ends_soon && now.duration_since(start) >= options.slow_window;
            let slow = watched
                .rate()
                .filter(|rate| is_watched && *rate < options.slow_bytes_per_second);
            if let Some(rate) = slow.filter(|_| limits.next.is_some() || !limits.is_slow_announced)
            {
                limits.is_slow_announced = true;
                progress(&Event::Slow {
                    url,
                    rate,
                    time_left: watched.time_left(left),
                    next: limits.next,
                });
                if limits.next.is_some() {
                    return Err(Failure::Slow { rate });
                }
            }
        }
        if is_end {
            break;
        }
    }
    match total {
        Some(total) if offset < total => Err(transient(format!(
            "the connection ended after {offset} of {total} bytes"
        ))),
        _ => Ok(()),
    }
}

fn open_partial(partial: &Path) -> Result<File, Error> {
    remove_link(partial)?;
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(partial)
        .map_err(|source| Error::write(partial, source))
}

fn truncate(file: &mut File, partial: &Path) -> Result<(), Failure> {
    file.set_len(0)
        .and_then(|()| file.rewind())
        .map_err(|source| local(partial, source))
}

/// Empties the partial file, so that the next try starts anew.
fn discard(
    file: &mut File,
    partial: &Path,
    url: &str,
    remote: &mut Remote,
    reason: &str,
    progress: &mut dyn FnMut(&Event<'_>),
) -> Result<(), Failure> {
    progress(&Event::Restarting { url, reason });
    truncate(file, partial)?;
    *remote = Remote::default();
    Err(Failure::Transient {
        reason: reason.to_owned(),
        retry_after: Some(Duration::ZERO),
    })
}

fn local(partial: &Path, source: io::Error) -> Failure {
    Failure::Local(Error::write(partial, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_for_https_refuses_http() {
        let options = DownloadOptions::default();
        // The check is made anew for each redirect, before any connection.
        let error = agent("https://example.invalid/x", &options)
            .get("http://127.0.0.1:1/x")
            .call();
        assert!(matches!(error, Err(ureq::Error::RequireHttpsOnly(_))));
    }
}
