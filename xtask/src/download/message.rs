//! A download's events in words.

use cifar_loader::Event;
use run_files::wording;

/// What a person is told.
pub(super) fn message(event: &Event<'_>) -> String {
    match event {
        Event::AlreadyPresent { .. } => "the files are already here and right".to_owned(),
        Event::Waiting { holder } => {
            let process = holder
                .map(|id| format!(" (process {id})"))
                .unwrap_or_default();
            format!("waiting for another download into this folder{process}")
        }
        Event::Connecting {
            url,
            resume_from: 0,
            ..
        } => format!("downloading {url}"),
        Event::Connecting {
            url, resume_from, ..
        } => {
            format!(
                "downloading {url}, continued after {}",
                wording::amount(*resume_from)
            )
        }
        Event::Transfer {
            bytes,
            total,
            rate,
            time_left,
            ..
        } => {
            let whole = total
                .map(|total| format!(" of {}", wording::amount(total)))
                .unwrap_or_default();
            let rate = rate
                .map(|rate| format!(", {}/s", wording::amount(rate as u64)))
                .unwrap_or_default();
            let left = time_left
                .map(|left| format!(", {} left", wording::duration(left.as_secs() as f64)))
                .unwrap_or_default();
            format!("  {}{whole}{rate}{left}", wording::amount(*bytes))
        }
        Event::Slow {
            url,
            rate,
            time_left,
            next,
        } => {
            let left = time_left
                .map(|left| format!(" ({} left)", wording::duration(left.as_secs() as f64)))
                .unwrap_or_default();
            let then = match next {
                Some(next) => format!("trying {next}"),
                None => {
                    "staying, since no other mirror is left; --url U names another one".to_owned()
                }
            };
            format!(
                "{url} is slow: {}/s{left}; {then}",
                wording::amount(*rate as u64)
            )
        }
        Event::Restarting { url, reason } => format!("{}: starting over: {reason}", host(url)),
        Event::Retrying { url, reason, delay } => {
            format!(
                "{}: {reason}; next try in {:.1} s",
                host(url),
                delay.as_secs_f64()
            )
        }
        Event::GivingUp { url, reason, next } => {
            let then = next
                .map(|next| format!("; trying {next}"))
                .unwrap_or_default();
            format!("{}: given up: {reason}{then}", host(url))
        }
        Event::Verifying { bytes, total } => {
            format!(
                "  verified {} of {}",
                wording::amount(*bytes),
                wording::amount(*total)
            )
        }
        Event::Published { folder } => format!("published {}", folder.display()),
        other => format!("{other:?}"),
    }
}

/// The host of an address, or the whole of what is not an address.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    if rest.len() == url.len() {
        return url;
    }
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn progress_names_amount_rate_and_time_left() {
        let event = Event::Transfer {
            url: "https://host/x",
            bytes: 42_100_000,
            total: Some(170_052_171),
            rate: Some(85_000.0),
            time_left: Some(Duration::from_secs(1505)),
        };
        assert_eq!(
            message(&event),
            "  42.1 MB of 170.1 MB, 85 kB/s, 25 min 5 s left"
        );
    }

    #[test]
    fn hosts_are_taken_from_addresses_only() {
        assert_eq!(host("https://host.org:80/a/b"), "host.org:80");
        assert_eq!(
            host("/data/cifar-10-binary.tar.gz"),
            "/data/cifar-10-binary.tar.gz"
        );
    }

    #[test]
    fn a_slow_mirror_is_named_with_what_comes_next() {
        let event = |next| Event::Slow {
            url: "https://a",
            rate: 50_000.0,
            time_left: None,
            next,
        };
        assert_eq!(
            message(&event(Some("https://b"))),
            "https://a is slow: 50 kB/s; trying https://b"
        );
        assert!(message(&event(None)).contains("--url U"));
    }
}
