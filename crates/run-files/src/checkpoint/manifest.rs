//! What a checkpoint's folder holds, by size and hash.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Version of the layout of a checkpoint.
const FORMAT: u32 = 3;
/// The version before, whose manifests have no [`Origin`].
const WITHOUT_ORIGIN: u32 = 2;
/// A manifest is a few hundred bytes.
pub(super) const LARGEST_MANIFEST: u64 = 1 << 20;

/// The list of a checkpoint's files, written after all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    files: Vec<ManifestEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
    /// SHA-256 of the origin as compact JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin_sha256: Option<String>,
}

/// What a checkpoint was made with. It decides what the run is: `config.json` beside it can be edited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Every setting, as in `config.json`.
    pub settings: Map<String, Value>,
    /// The hash of the data set.
    pub data_hash: String,
}

impl Origin {
    fn sha256(&self) -> String {
        let json = serde_json::to_vec(self).expect("names and values serialise");
        hex(&Sha256::digest(json))
    }
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
    /// The manifest of these files, made with these settings and data.
    pub fn new(files: Vec<ManifestEntry>, origin: Option<Origin>) -> Self {
        Self {
            format: origin.as_ref().map_or(WITHOUT_ORIGIN, |_| FORMAT),
            files,
            origin_sha256: origin.as_ref().map(Origin::sha256),
            origin,
        }
    }

    /// The files, in their order.
    pub fn files(&self) -> &[ManifestEntry] {
        &self.files
    }

    /// What the checkpoint was made with; none in those of older programs.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Reads a manifest that lists exactly the files `names`, in this order, none larger than `largest` bytes.
    ///
    /// # Errors
    /// (expected, found), where the bytes are no such manifest.
    pub fn parse(bytes: &[u8], names: &[&str], largest: u64) -> Result<Self, (String, String)> {
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| ("a manifest".to_owned(), error.to_string()))?;
        let format = manifest.origin.as_ref().map_or(WITHOUT_ORIGIN, |_| FORMAT);
        if manifest.format != format {
            return Err((
                format!("format {format}"),
                format!("format {}", manifest.format),
            ));
        }
        let sha256 = manifest.origin.as_ref().map(Origin::sha256);
        if manifest.origin_sha256 != sha256 {
            let text = |hash: Option<String>| format!("sha256 {}", hash.unwrap_or_default());
            return Err((text(manifest.origin_sha256), text(sha256)));
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
        Ok(manifest)
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
        let manifest = Manifest::new(vec![entry.clone()], None);
        let json = manifest.to_json();
        assert_eq!(Manifest::parse(&json, &["a"], 3), Ok(manifest));
        for (names, largest) in [(&["b"][..], 3), (&[], 3), (&["a", "b"], 3), (&["a"], 2)] {
            assert!(Manifest::parse(&json, names, largest).is_err(), "{names:?}");
        }
        let other = String::from_utf8(json).expect("text").replace(": 2", ": 4");
        let (_, found) = Manifest::parse(other.as_bytes(), &["a"], 3).expect_err("a later format");
        assert_eq!(found, "format 4");
        assert_eq!(entry.difference(b"abc"), None);
        assert!(entry.difference(b"abd").is_some() && entry.difference(b"ab").is_some());
    }

    #[test]
    fn what_a_checkpoint_was_made_with_is_hashed_too() {
        let settings = serde_json::json!({ "seed": u64::MAX, "width": 0.1 + 0.2 });
        let origin = Origin {
            settings: settings.as_object().expect("an object").clone(),
            data_hash: "abc".to_owned(),
        };
        let entry = ManifestEntry::of("a", b"abc");
        let manifest = Manifest::new(vec![entry], Some(origin.clone()));
        let json = manifest.to_json();
        let read = Manifest::parse(&json, &["a"], 3).expect("intact");
        assert_eq!(read.origin(), Some(&origin));
        let text = String::from_utf8(json).expect("text");
        for (before, after) in [
            ("18446744073709551615", "18446744073709551614"),
            ("\"seed\"", "\"sead\""),
            ("\"abc\"", "\"abd\""),
            ("\"format\": 3", "\"format\": 2"),
        ] {
            let edited = text.replace(before, after);
            assert_ne!(edited, text);
            assert!(
                Manifest::parse(edited.as_bytes(), &["a"], 3).is_err(),
                "{after}"
            );
        }
    }
}
