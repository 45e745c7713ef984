//! The byte format: one label byte, then 3,072 bytes of colour planes.

use std::path::Path;

use crate::error::Error;
pub use crate::image_format::{
    CHANNELS, CLASS_NAMES, HEIGHT, IMAGE_BYTES, NUM_CLASSES, RECORD_BYTES, WIDTH,
};

/// One labelled image, borrowed from the bytes it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Class, 0 to 9.
    pub label: u8,
    /// `[3, 32, 32]` planes red, green, blue, each row by row from the top left; 0 to 255.
    pub image: &'a [u8; IMAGE_BYTES],
}

impl Record<'_> {
    /// Appends the record in the byte format.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.label);
        out.extend_from_slice(self.image);
    }
}

/// Records in memory, known to be whole and to carry labels 0 to 9.
#[derive(Clone, PartialEq, Eq)]
pub struct Records {
    bytes: Vec<u8>,
}

impl Records {
    /// Takes the bytes of whole records. `path` only serves the error message.
    ///
    /// # Errors
    /// [`Error::TruncatedRecord`] when the bytes end inside a record, [`Error::LabelOutOfRange`] for a label above 9.
    pub fn parse(bytes: Vec<u8>, path: &Path) -> Result<Self, Error> {
        check(&bytes, path)?;
        Ok(Self { bytes })
    }

    /// Takes bytes whose every piece has passed [`check`].
    pub(crate) fn from_checked(bytes: Vec<u8>) -> Self {
        debug_assert!(bytes.len().is_multiple_of(RECORD_BYTES));
        Self { bytes }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.bytes.len() / RECORD_BYTES
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The record at `index`, or `None` past the end.
    pub fn get(&self, index: usize) -> Option<Record<'_>> {
        let start = index.checked_mul(RECORD_BYTES)?;
        let bytes = self.bytes.get(start..start.checked_add(RECORD_BYTES)?)?;
        let (label, image) = bytes.split_first()?;
        Some(Record {
            label: *label,
            image: image.try_into().ok()?,
        })
    }

    /// All records in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        let (records, _) = self.bytes.as_chunks::<RECORD_BYTES>();
        records.iter().map(|bytes| {
            let (label, image) = bytes.split_first().expect("a record is not empty");
            Record {
                label: *label,
                image: image.try_into().expect("a record holds one image"),
            }
        })
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("len", &self.len()).finish()
    }
}

/// Checks that `bytes` are whole records with labels 0 to 9.
pub(crate) fn check(bytes: &[u8], path: &Path) -> Result<(), Error> {
    let (records, rest) = bytes.as_chunks::<RECORD_BYTES>();
    let offset_of = |index: usize| (index as u64) * RECORD_BYTES as u64;
    for (index, record) in records.iter().enumerate() {
        if usize::from(record[0]) >= NUM_CLASSES {
            return Err(Error::LabelOutOfRange {
                path: path.to_owned(),
                offset: offset_of(index),
                found: record[0],
            });
        }
    }
    if rest.is_empty() {
        return Ok(());
    }
    Err(Error::TruncatedRecord {
        path: path.to_owned(),
        offset: offset_of(records.len()),
        found: rest.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(labels: &[u8], seed: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, label) in labels.iter().enumerate() {
            let image: [u8; IMAGE_BYTES] = std::array::from_fn(|pixel| {
                (pixel as u8).wrapping_mul(seed).wrapping_add(index as u8)
            });
            Record {
                label: *label,
                image: &image,
            }
            .encode(&mut bytes);
        }
        bytes
    }

    #[test]
    fn a_wrong_label_is_named_with_file_and_offset() {
        let error = Records::parse(encoded(&[1, 9, 10], 3), Path::new("d/train.bin")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("d/train.bin: label at offset 6146 is 10, expected 0 to 9"),
            "{text}"
        );
    }

    #[test]
    fn a_partial_record_is_refused() {
        let mut bytes = encoded(&[1, 2], 3);
        bytes.truncate(RECORD_BYTES + 7);
        let error = Records::parse(bytes, Path::new("x")).unwrap_err();
        assert!(
            matches!(
                error,
                Error::TruncatedRecord {
                    offset: 3073,
                    found: 7,
                    ..
                }
            ),
            "{error}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn records_survive_a_round_trip(labels in prop::collection::vec(0u8..10, 0..6), seed: u8) {
            let bytes = encoded(&labels, seed);
            let records = Records::parse(bytes.clone(), Path::new("x")).unwrap();
            prop_assert_eq!(records.len(), labels.len());
            let mut again = Vec::new();
            records.iter().for_each(|record| record.encode(&mut again));
            prop_assert_eq!(again, bytes);
            prop_assert_eq!(records.get(labels.len()), None);
            prop_assert_eq!(records.get(usize::MAX), None);
        }

        #[test]
        fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..8000)) {
            let _ = Records::parse(bytes, Path::new("x"));
        }
    }
}
