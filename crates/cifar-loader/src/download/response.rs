//! What a mirror's answer means.

use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode, header};

use crate::download::transfer_failure::{Failure, MAX_REDIRECTS, transient};

/// Why a request got no answer, in one line.
pub(crate) fn request_reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::RequireHttpsOnly(_) => {
            "redirects from https to http, which is refused".to_owned()
        }
        ureq::Error::TooManyRedirects => format!("more than {MAX_REDIRECTS} redirects"),
        other => other.to_string(),
    }
}

pub(crate) fn request_failure(error: ureq::Error) -> Failure {
    let reason = request_reason(&error);
    match error {
        ureq::Error::RequireHttpsOnly(_)
        | ureq::Error::TooManyRedirects
        | ureq::Error::RedirectFailed
        | ureq::Error::BadUri(_)
        | ureq::Error::Http(_)
        | ureq::Error::Tls(_)
        | ureq::Error::InvalidProxyUrl => Failure::Permanent { reason },
        _ => transient(reason),
    }
}

pub(crate) fn status_failure(status: StatusCode, headers: &HeaderMap) -> Failure {
    let reason = format!("HTTP {status}");
    let is_transient = status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT;
    if !is_transient {
        return Failure::Permanent { reason };
    }
    let retry_after = number(headers, header::RETRY_AFTER).map(Duration::from_secs);
    Failure::Transient {
        reason,
        retry_after,
    }
}

pub(crate) fn number(headers: &HeaderMap, name: header::HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// `bytes START-END/TOTAL` as (start, total); the total may be `*`.
pub(crate) fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    parse_content_range(headers.get(header::CONTENT_RANGE)?.to_str().ok()?)
}

fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.parse().ok()?, end.parse().ok()?);
    let total = if total == "*" {
        None
    } else {
        Some(total.parse().ok()?)
    };
    let is_sound = start <= end && total.is_none_or(|total| end < total);
    is_sound.then_some((start, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5, None)));
        for text in [
            "bytes 5-9/9",
            "bytes 9-5/20",
            "bytes */10",
            "5-9/10",
            "bytes 5-9",
            "bytes -9/10",
        ] {
            assert_eq!(parse_content_range(text), None, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn content_ranges_never_panic(text in ".{0,40}") {
            let _ = parse_content_range(&text);
            let _ = parse_content_range(&format!("bytes {text}"));
        }
    }
}
