//! `cargo xtask download`: the whole of CIFAR-10, verified, with progress.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cifar_loader::{
    DownloadOptions, Event, OFFICIAL, download, import_file, mirrors_from_environment,
};
use run_files::wording;
use serde_json::{Value, json};

use crate::path_argument::path;

/// Get the whole of CIFAR-10 (170 MB) and verify it.
///
/// Interrupted downloads are continued. CIFAR10_MIRRORS (addresses separated by commas) replaces the built-in mirrors. The proxy is that of ALL_PROXY, HTTPS_PROXY or
/// HTTP_PROXY, in this order, but for the hosts in NO_PROXY. Addresses with http:// go through it too, by CONNECT.
/// Exit codes: 2 usage, 10 network, 11 checksum, 12 not the data set, 21 disk.
#[derive(Debug, clap::Args)]
pub(crate) struct DownloadArgs {
    /// Folder that gets `cifar-10-batches-bin/`
    #[arg(long, value_name = "D", default_value = "data", value_parser = path())]
    data_dir: PathBuf,
    /// Address to download from; may be repeated, in the order of trying
    #[arg(long = "url", value_name = "U", conflicts_with = "from_file")]
    urls: Vec<String>,
    /// Use this copy of cifar-10-binary.tar.gz instead of the network
    #[arg(long, value_name = "F", value_parser = path())]
    from_file: Option<PathBuf>,
    /// Print events as JSON, one per line, on standard output
    #[arg(long)]
    json: bool,
}

/// Downloads or imports, and says where the files are and what to do next.
pub(crate) fn run(args: DownloadArgs) -> anyhow::Result<()> {
    let mut reporter = Reporter::new(args.json);
    let mut progress = |event: &Event<'_>| reporter.report(event);
    let outcome = match &args.from_file {
        Some(file) if !file.exists() => return Err(NoCopy(file.clone()).into()),
        Some(file) => import_file(&OFFICIAL, &args.data_dir, file, &mut progress),
        None => {
            let mirrors = if args.urls.is_empty() {
                mirrors_from_environment()
            } else {
                args.urls.clone()
            };
            let options = DownloadOptions {
                mirrors,
                ..Default::default()
            };
            download(&OFFICIAL, &args.data_dir, &options, &mut progress)
        }
    };
    reporter.end_line();
    let folder = outcome?;
    // The data is there, whoever can read of it.
    let mut stdout = std::io::stdout().lock();
    let _ = if args.json {
        let done = json!({"event": "done", "folder": folder, "images": 60_000});
        writeln!(stdout, "{done}")
    } else {
        writeln!(
            stdout,
            "CIFAR-10 is complete and verified: {}\n\
             next: cargo xtask train --preset depth28 --data-dir {}",
            folder.display(),
            args.data_dir.display()
        )
    };
    Ok(())
}

/// A name of `--from-file` that leads nowhere.
#[derive(Debug)]
struct NoCopy(PathBuf);

impl std::fmt::Display for NoCopy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "`--from-file {}`: there is no such file; check the name",
            self.0.display()
        )
    }
}

impl std::error::Error for NoCopy {}

/// The exit code for an error of [`run`]: that of the loader's error, else 1.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<NoCopy>() {
        return 2;
    }
    error
        .downcast_ref::<cifar_loader::Error>()
        .map_or(1, cifar_loader::Error::exit_code)
}

/// Time between two plain lines of progress.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Tells events to people or machines.
struct Reporter {
    is_json: bool,
    /// Progress is one line, drawn again and again.
    redraws: bool,
    has_open_line: bool,
    last_progress: Option<Instant>,
}

impl Reporter {
    fn new(is_json: bool) -> Self {
        let redraws = std::io::stderr().is_terminal() && std::env::var_os("CMDLINE").is_none();
        Self {
            is_json,
            redraws,
            has_open_line: false,
            last_progress: None,
        }
    }

    fn report(&mut self, event: &Event<'_>) {
        match event {
            Event::Transfer { bytes, total, .. } => self.progress(event, *total == Some(*bytes)),
            Event::Verifying { bytes, total } => self.progress(event, bytes == total),
            _ => self.line(event),
        }
    }

    /// Shows progress as often as the output allows, and the last of it always.
    fn progress(&mut self, event: &Event<'_>, is_last: bool) {
        let interval = if self.redraws && !self.is_json {
            Duration::from_millis(100)
        } else {
            LINE_INTERVAL
        };
        if !is_last
            && self
                .last_progress
                .is_some_and(|last| last.elapsed() < interval)
        {
            return;
        }
        self.last_progress = Some(Instant::now());
        if self.is_json || !self.redraws {
            return self.line(event);
        }
        let mut stderr = std::io::stderr().lock();
        // A terminal that is gone is no reason to stop.
        let _ = write!(stderr, "\r\x1b[K{}", message(event)).and_then(|()| stderr.flush());
        self.has_open_line = true;
    }

    fn line(&mut self, event: &Event<'_>) {
        self.end_line();
        if self.is_json {
            let _ = writeln!(std::io::stdout(), "{}", machine_form(event));
        } else {
            let _ = writeln!(std::io::stderr(), "{}", message(event));
        }
    }

    /// Leaves a redrawn line as it stands.
    fn end_line(&mut self) {
        if std::mem::take(&mut self.has_open_line) {
            let _ = writeln!(std::io::stderr());
        }
    }
}

fn message(event: &Event<'_>) -> String {
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

fn machine_form(event: &Event<'_>) -> Value {
    let seconds = |time: &Option<Duration>| time.map(|time| time.as_secs_f64());
    let path = |path: &Path| path.display().to_string();
    match event {
        Event::AlreadyPresent { folder } => {
            json!({"event": "already_present", "folder": path(folder)})
        }
        Event::Waiting { holder } => json!({"event": "waiting", "holder": holder}),
        Event::Connecting {
            url,
            attempt,
            resume_from,
        } => {
            json!({"event": "connecting", "url": url, "attempt": attempt, "resume_from": resume_from})
        }
        Event::Transfer {
            url,
            bytes,
            total,
            rate,
            time_left,
        } => json!({
            "event": "transfer", "url": url, "bytes": bytes, "total": total,
            "bytes_per_second": rate, "seconds_left": seconds(time_left),
        }),
        Event::Slow {
            url,
            rate,
            time_left,
            next,
        } => json!({
            "event": "slow", "url": url, "bytes_per_second": rate,
            "seconds_left": seconds(time_left), "next": next,
        }),
        Event::Restarting { url, reason } => {
            json!({"event": "restarting", "url": url, "reason": reason})
        }
        Event::Retrying { url, reason, delay } => {
            json!({"event": "retrying", "url": url, "reason": reason, "delay_seconds": delay.as_secs_f64()})
        }
        Event::GivingUp { url, reason, next } => {
            json!({"event": "giving_up", "url": url, "reason": reason, "next": next})
        }
        Event::Verifying { bytes, total } => {
            json!({"event": "verifying", "bytes": bytes, "total": total})
        }
        Event::Published { folder } => json!({"event": "published", "folder": path(folder)}),
        _ => json!({"event": "other"}),
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
        assert_eq!(machine_form(&event)["seconds_left"], 1505.0);
    }

    /// Other programs read these lines: keys, their order and the form of numbers stay.
    #[test]
    fn events_are_written_as_they_were() {
        let (url, reason) = ("u", "r");
        let time_left = Some(Duration::from_millis(1500));
        let events = [
            Event::AlreadyPresent {
                folder: Path::new("f"),
            },
            Event::Waiting { holder: None },
            Event::Connecting {
                url,
                attempt: 1,
                resume_from: 5,
            },
            Event::Transfer {
                url,
                bytes: 1,
                total: None,
                rate: Some(2.0),
                time_left,
            },
            Event::Slow {
                url,
                rate: 2.0,
                time_left: None,
                next: Some("v"),
            },
            Event::Restarting { url, reason },
            Event::Retrying {
                url,
                reason,
                delay: Duration::from_millis(250),
            },
            Event::GivingUp {
                url,
                reason,
                next: None,
            },
            Event::Verifying { bytes: 1, total: 2 },
            Event::Published {
                folder: Path::new("f"),
            },
        ];
        let lines = events.map(|event| machine_form(&event).to_string());
        assert_eq!(
            lines,
            [
                r#"{"event":"already_present","folder":"f"}"#,
                r#"{"event":"waiting","holder":null}"#,
                r#"{"event":"connecting","url":"u","attempt":1,"resume_from":5}"#,
                r#"{"event":"transfer","url":"u","bytes":1,"total":null,"bytes_per_second":2.0,"seconds_left":1.5}"#,
                r#"{"event":"slow","url":"u","bytes_per_second":2.0,"seconds_left":null,"next":"v"}"#,
                r#"{"event":"restarting","url":"u","reason":"r"}"#,
                r#"{"event":"retrying","url":"u","reason":"r","delay_seconds":0.25}"#,
                r#"{"event":"giving_up","url":"u","reason":"r","next":null}"#,
                r#"{"event":"verifying","bytes":1,"total":2}"#,
                r#"{"event":"published","folder":"f"}"#,
            ]
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

    #[test]
    fn the_loaders_exit_codes_pass_through() {
        let error = cifar_loader::Error::BadUrl {
            url: "x".into(),
            reason: "y".into(),
        };
        assert_eq!(exit_code(&anyhow::Error::from(error)), 2);
        assert_eq!(exit_code(&anyhow::anyhow!("other")), 1);
        assert_eq!(exit_code(&NoCopy("typo".into()).into()), 2);
    }
}
