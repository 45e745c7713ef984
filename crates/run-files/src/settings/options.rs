//! What the flags of training take besides settings, and paths as a shell leaves them.

use std::path::{Path, PathBuf};

use clap::builder::{StringValueParser, TypedValueParser};

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
