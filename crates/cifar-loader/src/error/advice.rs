//! What messages say of the mirrors that were tried, and advise: the next command, with the folder that it is about.

use std::fmt;
use std::path::Path;

/// Why one mirror was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorFailure {
    /// The address.
    pub url: String,
    /// The last failure, in one line.
    pub reason: String,
}

/// The mirrors that were tried, each with its last failure.
pub(super) struct Mirrors<'a>(pub(super) &'a [MirrorFailure]);

impl fmt::Display for Mirrors<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, failure) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{} ({})", failure.url, failure.reason)?;
        }
        Ok(())
    }
}

/// The advice where a data folder holds nothing.
pub(super) struct Missing<'a> {
    pub(super) path: &'a Path,
    pub(super) folder: &'a str,
}

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, folder } = *self;
        if path.is_file() {
            return write!(f, "it is a file: name the folder that it lies in");
        }
        let folder = if path.ends_with(folder) {
            above(path)
        } else {
            path
        };
        write!(
            f,
            "run `cargo xtask download --data-dir {}`",
            folder.display()
        )
    }
}

/// The command that puts good files in place of those at a path: members, or the folder of members. Where else a file
/// lies, such as a container that was handed over, says nothing of the data folder.
pub(super) struct Download<'a>(pub(super) &'a Path);

impl fmt::Display for Download<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cargo xtask download")?;
        let is_member = self.0.extension().is_some_and(|ending| ending == "bin");
        let folder = if is_member { above(self.0) } else { self.0 };
        match folder.file_name().and_then(|name| name.to_str()) {
            Some("cifar-10-batches-bin" | "cifar-10-batches-py") => {
                write!(f, " --data-dir {}", above(folder).display())
            }
            _ => Ok(()),
        }
    }
}

/// The folder that a path lies in.
fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Error;

    #[test]
    fn advice_names_the_data_folder_in_question() {
        let missing = |path: &str| Error::MissingMember {
            path: path.into(),
            member: "test_batch.bin".into(),
        };
        for (path, command) in [
            (
                "d/cifar-10-batches-bin",
                "`cargo xtask download --data-dir d`",
            ),
            (
                "cifar-10-batches-bin",
                "`cargo xtask download --data-dir .`",
            ),
            ("elsewhere/copy.tar.gz", "`cargo xtask download`"),
        ] {
            let text = missing(path).to_string();
            assert!(text.contains(command), "{text}");
        }
        let damaged = Error::LabelOutOfRange {
            path: "d/cifar-10-batches-bin/test_batch.bin".into(),
            offset: 0,
            found: 10,
        };
        assert!(damaged.to_string().contains("--data-dir d`"), "{damaged}");
        // A file takes no folder of files: this one is there.
        let named = Error::DatasetMissing {
            path: "Cargo.toml".into(),
            folder: "cifar-10-batches-bin".into(),
            container: "cifar-10-binary.tar.gz".into(),
        };
        let text = named.to_string();
        assert!(
            text.contains("name the folder") && !text.contains("--data-dir Cargo"),
            "{text}"
        );
        assert!(text.contains("`--data sample`"), "{text}");
    }
}
