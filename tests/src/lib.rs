//! Runs the project's programs as a user would: real processes, real files, exit codes and messages.

#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

pub mod faults;

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests lie in the workspace's folder")
}

/// A folder of its own for one test, and commands that run in it.
#[derive(Debug)]
pub struct Bench {
    folder: tempfile::TempDir,
}

/// The arguments of a run of seconds: `train` with the demo preset and a model as small as it gets, and these words besides.
pub fn tiny(more: &str) -> Vec<&str> {
    let smallest = "train --preset demo --width 0.02 --latent-dim 4";
    smallest.split(' ').chain(more.split_whitespace()).collect()
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Bench {
    /// An empty folder, removed at the end.
    ///
    /// # Panics
    /// If the system gives none.
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// A file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The bytes of a file in it.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The same as text.
    ///
    /// # Panics
    /// If it cannot be read, or is no UTF-8.
    pub fn read_text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A file in it that is one JSON value.
    ///
    /// # Panics
    /// If it is none.
    pub fn read_json(&self, name: &str) -> Value {
        let bytes = self.read(name);
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The rows of a run's `metrics.jsonl`.
    ///
    /// # Panics
    /// If one is no JSON.
    pub fn rows(&self, run_dir: &str) -> Vec<Value> {
        let bytes = self.read(&format!("{run_dir}/metrics.jsonl"));
        let lines = serde_json::Deserializer::from_slice(&bytes).into_iter();
        lines.map(|row| row.expect("a row")).collect()
    }

    /// Holds the files of two runs against each other that depend on nothing but settings and data.
    ///
    /// # Panics
    /// With the name of one that differs.
    pub fn assert_same_run(&self, first: &str, second: &str) {
        for name in [
            "metrics.jsonl",
            "metrics.csv",
            "model.safetensors",
            "encoder.safetensors",
            "decoder.safetensors",
            "summary.json",
        ] {
            let read = |run_dir: &str| self.read(&format!("{run_dir}/{name}"));
            assert!(
                read(first) == read(second),
                "{name} of {first} and {second} differ"
            );
        }
    }

    /// Runs `cargo xtask ARGUMENTS`, from this folder and without the settings of the environment.
    pub fn xtask<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ended {
        ended(self.prepared(&mut Command::new(xtask())).args(arguments))
    }

    /// Runs the trainer's program itself, which `cargo xtask` has built.
    pub fn trainer<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ended {
        ended(self.trainer_command().args(arguments))
    }

    /// `xtask`'s program, to be started by the test.
    pub fn xtask_command(&self) -> Command {
        let mut command = Command::new(xtask());
        self.prepared(&mut command);
        command
    }

    /// Any program, to be started by the test in this folder.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        self.prepared(&mut command);
        command
    }

    /// The trainer's program, to be started by the test.
    pub fn trainer_command(&self) -> Command {
        let mut command = Command::new(trainer());
        self.prepared(&mut command);
        command
    }

    fn prepared<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for name in [
            "BATCH_SIZE",
            "LATENT_DIM",
            "INTERMEDIATE_DIM",
            "EPOCHS",
            "ACTIVATION",
            "DROPOUT",
            "DECAY",
            "LEARNING_RATE",
            "RESNET_DEPTH",
            "OUTDIR",
            "PRECISION",
            "CMDLINE",
            "CIFAR10_MIRRORS",
            // The tests' servers are on this machine.
            "http_proxy",
            "HTTP_PROXY",
            "https_proxy",
            "HTTPS_PROXY",
            "all_proxy",
            "ALL_PROXY",
        ] {
            command.env_remove(name);
        }
        command.current_dir(self.folder.path())
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Ended {
    /// The same, if the program ended well.
    ///
    /// # Panics
    /// With both outputs, if it did not.
    pub fn success(self) -> Self {
        assert_eq!(
            self.code,
            Some(0),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// The same, if the program ended with this code and its last message holds each of these texts.
    ///
    /// # Panics
    /// With both outputs, if it did not.
    pub fn failure(self, code: i32, texts: &[&str]) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        for text in texts {
            assert!(
                self.stderr.contains(text),
                "no `{text}` in:\n{}",
                self.stderr
            );
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// Standard output as one JSON value.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in:\n{}", self.stdout))
    }
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be started.
pub fn ended(command: &mut Command) -> Ended {
    let output: Output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `xtask`'s program, built by Cargo as the alias does; the variable `TEST_XTASK` names another one.
fn xtask() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| given("TEST_XTASK").unwrap_or_else(|| build("xtask")))
}

/// The trainer's program, built as `cargo xtask train` builds it; the variable `TEST_TRAINER` names another one, such as
/// that of an earlier commit, which must fail the test of a fault that was mended since.
fn trainer() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| given("TEST_TRAINER").unwrap_or_else(|| trainer_with(&[])))
}

fn given(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

/// Cargo, without what it has set for the tests: build scripts would take it for a change and compile again, in whichever workspace.
pub fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_")
            || name.to_string_lossy().starts_with("CARGO_MANIFEST_")
        {
            command.env_remove(name);
        }
    }
    command
}

/// Builds the trainer with these features besides its default ones, and copies it beside the place where Cargo puts it, which a build with other
/// features takes.
///
/// # Panics
/// Where it cannot be built.
pub fn trainer_with(features: &[&str]) -> PathBuf {
    let has_mpi = features.contains(&"mpi");
    // Another test may build the other one at the same time.
    for _ in 0..10 {
        let built = build_with("trainer", features);
        let name = if has_mpi {
            "trainer-of-tests-mpi"
        } else {
            "trainer-of-tests"
        };
        let copy = built.with_file_name(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        let unfinished = copy.with_extension(std::process::id().to_string());
        std::fs::copy(&built, &unfinished).expect("copied");
        // Other tests may be running the one that is there.
        std::fs::rename(&unfinished, &copy).expect("renamed");
        if links_mpi(&copy).is_none_or(|links| links == has_mpi) {
            return copy;
        }
    }
    panic!("no trainer with {features:?} was built");
}

/// Whether a program needs an MPI library; none where the system does not tell.
fn links_mpi(program: &Path) -> Option<bool> {
    let libraries = Command::new("ldd").arg(program).output().ok()?;
    Some(String::from_utf8_lossy(&libraries.stdout).contains("libmpi"))
}

/// Builds a program of the workspace with its default features and asks Cargo where it is.
pub fn build(package: &str) -> PathBuf {
    build_with(package, &[])
}

/// Builds a program of the workspace with these features besides its default ones.
pub fn build_with(package: &str, features: &[&str]) -> PathBuf {
    let mut command = cargo();
    let built = ended(
        command
            .args([
                "build",
                "--message-format",
                "json-render-diagnostics",
                "--package",
                package,
                "--bin",
                package,
                "--features",
                &features.join(","),
            ])
            .current_dir(workspace()),
    )
    .success();
    let messages = built
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = messages
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back();
    program.expect("cargo says where the program is")
}
