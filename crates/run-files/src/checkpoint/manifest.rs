//! What a checkpoint's folder holds, by size and hash.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Version of the layout of a checkpoint.
const FORMAT: u32 = 2;
/// A manifest is a few hundred bytes.
pub(super) const LARGEST_MANIFEST: u64 = 1 << 20;

/// The list of a checkpoint's files, written after all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    files: Vec<ManifestEntry>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestEntry {
    /// Its name in the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

impl ManifestEntry {
    /// The entry of a file with this content.
    pub fn of(name: &str, content: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            bytes: content.len() as u64,
            sha256: hex(&Sha256::digest(content)),
        }
    }

    /// What of the content is not as the entry says: (expected, found).
    pub fn difference(&self, content: &[u8]) -> Option<(String, String)> {
        let found = Self::of(&self.name, content);
        if found.bytes != self.bytes {
            // A file is read to one byte more than it should have, so a longer one's size is not known.
            let more = if found.bytes > self.bytes { "more" } else { "" };
            let found = if more.is_empty() {
                format!("{} bytes", found.bytes)
            } else {
                more.to_owned()
            };
            return Some((format!("{} bytes", self.bytes), found));
        }
        (found.sha256 != self.sha256)
            .then(|| (format!("sha256 {}", self.sha256), found.sha256.clone()))
    }
}

impl Manifest {
    /// The manifest of these files.
    pub fn new(files: Vec<ManifestEntry>) -> Self {
        Self {
            format: FORMAT,
            files,
        }
    }

    /// Reads a manifest that lists exactly the files `names`, in this order, none larger than `largest` bytes.
    ///
    /// # Errors
    /// (expected, found), where the bytes are no such manifest.
    pub fn parse(
        bytes: &[u8],
        names: &[&str],
        largest: u64,
    ) -> Result<Vec<ManifestEntry>, (String, String)> {
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| ("a manifest".to_owned(), error.to_string()))?;
        if manifest.format != FORMAT {
            return Err((
                format!("format {FORMAT}"),
                format!("format {}", manifest.format),
            ));
        }
        let found: Vec<&str> = manifest
            .files
            .iter()
            .map(|entry| entry.name.as_str())
            .collect();
        if found != names {
            return Err((format!("{names:?}"), format!("{found:?}")));
        }
        if let Some(entry) = manifest.files.iter().find(|entry| entry.bytes > largest) {
            return Err((
                format!("at most {largest} bytes in {}", entry.name),
                format!("{} bytes", entry.bytes),
            ));
        }
        Ok(manifest.files)
    }

    /// The manifest as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("names and numbers serialise")
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_lists_exactly_its_files() {
        let entry = ManifestEntry::of("a", b"abc");
        assert_eq!(
            entry.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "the standard's own example"
        );
        let json = Manifest::new(vec![entry.clone()]).to_json();
        assert_eq!(Manifest::parse(&json, &["a"], 3), Ok(vec![entry.clone()]));
        for (names, largest) in [(&["b"][..], 3), (&[], 3), (&["a", "b"], 3), (&["a"], 2)] {
            assert!(Manifest::parse(&json, names, largest).is_err(), "{names:?}");
        }
        let other = String::from_utf8(json).expect("text").replace(": 2", ": 3");
        let (_, found) = Manifest::parse(other.as_bytes(), &["a"], 3).expect_err("a later format");
        assert_eq!(found, "format 3");
        assert_eq!(entry.difference(b"abc"), None);
        assert!(entry.difference(b"abd").is_some() && entry.difference(b"ab").is_some());
    }
}
