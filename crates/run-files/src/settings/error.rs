//! What can be wrong with settings, and what to do next.

use std::io;
use std::path::PathBuf;

/// Why settings could not be resolved, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A value of the wrong type or outside its range.
    #[error(
        "{key} cannot be `{value}` ({given_by}): expected {allowed}{}",
        did_you_mean(nearest)
    )]
    InvalidValue {
        /// The key.
        key: &'static str,
        /// The value as it was given.
        value: String,
        /// The source, in words.
        given_by: String,
        /// The allowed values, in words, with the unit.
        allowed: String,
        /// The allowed name most like the value.
        nearest: Option<&'static str>,
    },
    /// A key that no setting has.
    #[error(
        "unknown key `{key}` in {}, line {line}{}; `--print-config` lists every key",
        path.display(), did_you_mean(nearest)
    )]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Line of its value, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The key most like it.
        nearest: Option<&'static str>,
    },
    /// A key given twice in one file.
    #[error("`{key}` appears twice in {}, the second time on line {line}: remove one of them", path.display())]
    DuplicateKey {
        /// The file.
        path: PathBuf,
        /// Line of the second value, from 1.
        line: usize,
        /// The key.
        key: &'static str,
    },
    /// A `config.json` that lacks a key.
    #[error(
        "{} lacks `{key}`, so it is not the complete config.json of a run; restore it, or give it to `train --config`, \
         which takes partial files",
        path.display()
    )]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
    },
    /// Text that is no JSON object.
    #[error("{} is no JSON object of settings: {cause}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        cause: serde_json::Error,
    },
    /// A file far larger than any settings.
    #[error("{} is larger than {limit} bytes, so it cannot be a file of settings; check the path", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A file that cannot be read.
    #[error("cannot read the settings in {}: {cause}; check the path", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write the settings to {}: {cause}; check free space and permissions", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The schedule would have to raise the learning rate to keep its minimum.
    #[error(
        "learning_rate {learning_rate} lies below minimum_learning_rate {minimum}: raise --learning-rate, or lower \
         minimum_learning_rate in a file given with --config"
    )]
    LearningRateBelowMinimum {
        /// The learning rate at the start.
        learning_rate: f64,
        /// The rate at which halving ends.
        minimum: f64,
    },
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}
