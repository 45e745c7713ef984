//! `cargo xtask download`: the whole of CIFAR-10, verified, with progress.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cifar_loader::{
    DownloadOptions, Event, OFFICIAL, download, import_file, mirrors_from_environment,
};

use crate::path_argument::path;

mod event_line;
mod message;

use event_line::EventLine;
use message::message;

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
        let done = EventLine::Done {
            folder: folder.to_string_lossy().into_owned(),
            images: 60_000,
        };
        writeln!(stdout, "{}", done.to_json())
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
            let _ = writeln!(std::io::stdout(), "{}", EventLine::of(event).to_json());
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

#[cfg(test)]
mod tests {
    use super::*;

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
