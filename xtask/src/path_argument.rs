//! Paths on the command line.

use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};

/// A path; a leading `~` is the home folder also behind `=`, where a shell leaves it as it is.
pub(crate) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|path| at_home(&path))
}

/// As the trainer reads a path that a shell has left with its `~`.
pub(crate) fn at_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_leading_tilde_is_the_home_folder() {
        let home = std::env::var_os("HOME").expect("a home folder");
        assert_eq!(at_home(Path::new("~/x/y")), Path::new(&home).join("x/y"));
        for path in ["x/~", "~x/y", "/~/x"] {
            assert_eq!(at_home(Path::new(path)), Path::new(path));
        }
    }
}
