//! Where a value of the settings came from.

use std::fmt;
use std::path::PathBuf;

use super::values::Preset;

/// Where a value came from, weakest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The default of [`Settings`](super::Settings).
    Default,
    /// Computed from another key, because no source gave it.
    Derived(&'static str),
    /// A preset.
    Preset(Preset),
    /// A file, and the line of the value from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Environment(&'static str),
    /// A flag.
    Flag(&'static str),
}

impl Source {
    /// The kind of source in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Derived(_) => "derived",
            Self::Preset(_) => "preset",
            Self::File { .. } => "file",
            Self::Environment(_) => "environment",
            Self::Flag(_) => "flag",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::Derived(key) => write!(formatter, "derived from {key}"),
            Self::Preset(preset) => write!(formatter, "preset {preset}"),
            Self::File { path, line } => write!(formatter, "{}, line {line}", path.display()),
            Self::Environment(name) => write!(formatter, "environment variable {name}"),
            Self::Flag(flag) => write!(formatter, "flag {flag}"),
        }
    }
}
