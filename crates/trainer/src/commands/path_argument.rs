//! Paths on the command line.

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};

use run_files::settings::expand_home;

/// A path; a leading `~` is the home folder also behind `=`, where a shell leaves it as it is.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(expand_home)
}
