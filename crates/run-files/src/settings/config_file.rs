//! Reading `--config` files and `config.json`: one JSON object whose keys are the fields of the settings.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::domain::nearest;
use super::source::Source;
use super::{Key, SettingsError};

/// Settings fill about a kilobyte; a larger file is some other file.
const LARGEST: u64 = 1 << 20;

/// One checked value of a file.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) value: Value,
    /// Line of the value, from 1.
    pub(super) line: usize,
}

/// Reads a file, which may name any of the keys.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, SettingsError> {
    let unreadable = |cause| SettingsError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(LARGEST + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > LARGEST {
        return Err(SettingsError::TooLarge {
            path: path.to_owned(),
            limit: LARGEST,
        });
    }
    parse(path, &text)
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Entry>, SettingsError> {
    let malformed = |cause| SettingsError::Malformed {
        path: path.to_owned(),
        cause,
    };
    // Some editors begin a file with this mark, which says nothing in UTF-8.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let RawEntries(raw) = serde_json::from_str(text).map_err(malformed)?;
    let mut entries: Vec<Entry> = Vec::with_capacity(raw.len());
    for (name, raw_value) in raw {
        let offset = raw_value.get().as_ptr() as usize - text.as_ptr() as usize;
        let line = 1 + text[..offset].matches('\n').count();
        let Some(key) = Key::from_name(&name) else {
            return Err(SettingsError::UnknownKey {
                path: path.to_owned(),
                line,
                nearest: nearest(&name, Key::ALL.map(Key::name)),
                key: name,
            });
        };
        if entries.iter().any(|entry| entry.key == key) {
            return Err(SettingsError::DuplicateKey {
                path: path.to_owned(),
                line,
                key: key.name(),
            });
        }
        let value: Value = serde_json::from_str(raw_value.get()).map_err(malformed)?;
        key.check(&value).map_err(|rejected| {
            rejected.into_error(
                key,
                Source::File {
                    path: path.to_owned(),
                    line,
                }
                .to_string(),
            )
        })?;
        entries.push(Entry { key, value, line });
    }
    Ok(entries)
}

/// The entries of an object in their order, each value still borrowed from the text so that its line is known.
struct RawEntries<'text>(Vec<(String, &'text RawValue)>);

impl<'text> Deserialize<'text> for RawEntries<'text> {
    fn deserialize<D: Deserializer<'text>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'text> Visitor<'text> for Entries {
            type Value = RawEntries<'text>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of settings")
            }

            fn visit_map<M: MapAccess<'text>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(RawEntries(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(text: &str) -> Result<Vec<Entry>, String> {
        parse(Path::new("my.json"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn partial_files_keep_order_and_lines() {
        let entries = parsed("{\n \"width\": 0.5,\n\n \"limit_train\":\n null}").unwrap();
        assert_eq!(
            entries,
            [
                Entry {
                    key: Key::Width,
                    value: json!(0.5),
                    line: 2
                },
                Entry {
                    key: Key::LimitTrain,
                    value: json!(null),
                    line: 5
                },
            ]
        );
        assert_eq!(parsed("{}").unwrap(), []);
        assert_eq!(parsed("\u{feff}{}").unwrap(), []);
    }

    #[test]
    fn errors_name_file_line_range_and_nearest_name() {
        for (text, expected_texts) in [
            (
                "{\n\"batchsize\": 3}",
                &[
                    "my.json, line 2",
                    "`batchsize`",
                    "did you mean `batch_size`?",
                ][..],
            ),
            (
                "{\"width\": 1,\n\"width\": 2}",
                &["`width` appears twice", "line 2"],
            ),
            (
                "{\n\n\"dropout\": 1.0}",
                &[
                    "dropout cannot be `1.0`",
                    "my.json, line 3",
                    "from 0 and below 1",
                ],
            ),
            (
                "{\"batch_size\": \"25\"}",
                &[
                    "batch_size cannot be `\"25\"`",
                    "my.json, line 1",
                    "an integer from 2 to 50000 images",
                ],
            ),
            (
                "{\"activation\": \"sigmod\"}",
                &[
                    "one of sigmoid, relu, tanh, silu, gelu",
                    "did you mean `sigmoid`?",
                ],
            ),
            (
                "{\"width\": 1,}",
                &["my.json", "trailing comma", "line 1 column 13"],
            ),
            ("[1]", &["my.json", "an object of settings"]),
            ("", &["my.json", "line 1 column 0"]),
        ] {
            let message = parsed(text).unwrap_err();
            for expected in expected_texts {
                assert!(
                    message.contains(expected),
                    "{expected:?} is not in {message:?}"
                );
            }
        }
    }

    #[test]
    fn missing_and_huge_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let missing = read(&folder.path().join("none.json")).unwrap_err();
        assert!(
            matches!(missing, SettingsError::Unreadable { .. }),
            "{missing}"
        );
        let huge = folder.path().join("huge.json");
        std::fs::write(&huge, vec![b' '; (1 << 20) + 1]).unwrap();
        assert!(matches!(
            read(&huge).unwrap_err(),
            SettingsError::TooLarge { .. }
        ));
    }
}
