//! This test program started once more, as a process that can be killed, starved or measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use cifar_loader::{DownloadOptions, Event, KnownArchive, OFFICIAL, download, import_file};

use crate::fixture::archive;

const TASK: &str = "CIFAR_LOADER_TEST_TASK";

/// What the process does with the data folder it is given.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// Downloads the fixture's archive from an address, pausing at each event of the last phases.
    Download { url: String, pause: Duration },
    /// Imports a file as the fixture's archive.
    Import(PathBuf),
    /// Imports a file as the whole of CIFAR-10.
    ImportOfficial(PathBuf),
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// Bytes by which the peak of its memory grew while it worked, where the system tells.
    pub(crate) memory: Option<u64>,
    pub(crate) messages: String,
}

/// The command that does `task` in `data_dir`.
pub(crate) fn command(task: &Task, data_dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    prepare(&mut command, task, data_dir);
    command
}

/// The same in a shell that first runs `setup`.
pub(crate) fn command_after(setup: &str, task: &Task, data_dir: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{setup}\nexec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap());
    prepare(&mut command, task, data_dir);
    command
}

fn prepare(command: &mut Command, task: &Task, data_dir: &Path) {
    let (kind, what, pause) = match task {
        Task::Download { url, pause } => ("download", url.clone(), pause.as_millis()),
        Task::Import(file) => ("import", file.display().to_string(), 0),
        Task::ImportOfficial(file) => ("import-official", file.display().to_string(), 0),
    };
    let text = format!("{kind}\n{what}\n{pause}\n{}", data_dir.display());
    command
        .args([
            "--exact",
            "child::this_process_when_it_has_a_task",
            "--nocapture",
        ])
        .env(TASK, text)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
}

/// Starts the process.
pub(crate) fn start(task: &Task, data_dir: &Path) -> Child {
    command(task, data_dir).spawn().unwrap()
}

/// Starts the process and waits for its end.
pub(crate) fn run(mut command: Command) -> Ended {
    ended(&command.output().unwrap())
}

/// What a finished process said.
pub(crate) fn ended(output: &Output) -> Ended {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let memory = stdout
        .lines()
        .find_map(|line| line.split_once("memory grew by ")?.1.parse().ok());
    Ended {
        code: output.status.code(),
        memory,
        messages: format!("{stdout}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn this_process_when_it_has_a_task() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let [kind, what, pause, data_dir] = task.split('\n').collect::<Vec<_>>()[..] else {
        panic!("{task}");
    };
    let pause = Duration::from_millis(pause.parse().unwrap());
    let data_dir = Path::new(data_dir);
    let import =
        |archive: &KnownArchive| import_file(archive, data_dir, Path::new(what), &mut |_| {});
    let fixture = archive();
    let before = peak_memory();
    let outcome = match kind {
        "import" => import(&fixture),
        "import-official" => import(&OFFICIAL),
        _ => {
            let options = DownloadOptions {
                mirrors: vec![what.to_owned()],
                backoff: Duration::from_millis(5),
                lock_patience: Duration::from_secs(60),
                ..Default::default()
            };
            download(&fixture, data_dir, &options, &mut |event| {
                if matches!(event, Event::Verifying { .. } | Event::Published { .. }) {
                    std::thread::sleep(pause);
                }
            })
        }
    };
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        println!("memory grew by {}", after - before);
    }
    if let Err(error) = outcome {
        eprintln!("{error}");
        std::process::exit(error.exit_code().into());
    }
}

/// The most memory that this process has held, in bytes; Linux alone tells.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
