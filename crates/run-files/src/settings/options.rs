//! What the flags of training take besides settings, and paths as a shell leaves them.

use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use clap::builder::{StringValueParser, TypedValueParser};

/// The `data_dir` that stands for the sample inside the program, which `--data sample` asks for.
pub const EMBEDDED_SAMPLE: &str = "embedded:sample";

/// What `--resume` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Resume {
    /// A run that is there.
    Existing,
    /// A run that is there, or a new one.
    OrStart,
}

/// Data that needs no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EmbeddedData {
    /// 2,000 training and 500 test images of CIFAR-10.
    Sample,
}

impl EmbeddedData {
    /// What there is, for the help of its flag.
    pub(super) const FORMS: &'static str = "sample, 2,000 training and 500 test images";

    /// The `data_dir` that stands for it, in files too.
    pub(super) fn data_dir(self) -> &'static str {
        match self {
            Self::Sample => EMBEDDED_SAMPLE,
        }
    }

    /// The one that a `data_dir` stands for.
    pub(super) fn of_data_dir(data_dir: &Path) -> Option<Self> {
        let mut all = Self::all().iter().copied();
        all.find(|data| data_dir == Path::new(data.data_dir()))
    }

    /// All there are.
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }
}

/// The help of `--data`.
pub(super) fn data_help() -> String {
    format!(
        "Data inside the program: {} [default: the files in --data-dir, or in data]",
        EmbeddedData::FORMS
    )
}

/// The text of a flag; of a path, with the home folder in place of a leading `~`.
pub(super) fn flag_text(value_name: &'static str) -> impl TypedValueParser<Value = String> {
    StringValueParser::new().map(move |text| {
        if value_name != "DIR" {
            return text;
        }
        let expanded = expand_home(text.clone().into());
        expanded.into_os_string().into_string().unwrap_or(text)
    })
}

/// Puts the home folder in place of a leading `~`: a shell does it in `--run-dir ~/x`, and not in `--run-dir=~/x`.
pub fn expand_home(path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) if !home.is_empty() => Path::new(&home).join(rest),
        _ => path,
    }
}

/// Seconds that another rank may be silent.
pub(super) fn rank_timeout(text: &str) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|seconds| (5..=86_400).contains(seconds))
        .ok_or_else(|| "expected an integer from 5 to 86400".to_owned())
}
