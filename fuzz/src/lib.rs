//! What is fuzzed: a function a parser, which takes any bytes and asserts what must hold of whatever is accepted.
//!
//! The trainer's parsers need no Burn, and compiling it with coverage would take an hour: their files are compiled here
//! once more, as part of this crate.

#![forbid(unsafe_code)]

mod archive;
mod scratch;

#[expect(dead_code, unused_imports, reason = "the parts of the trainer that are fuzzed, with all that they carry")]
#[path = "../../crates/trainer/src"]
mod trainer {
    pub(crate) mod atomic_file;
    pub(crate) mod metrics;
    pub(crate) mod settings;
}

// Where those files look for each other.
use trainer::{atomic_file, metrics, settings};

use std::path::Path;

use cifar_loader::{Cifar10, NUM_CLASSES, RECORD_BYTES, Records};

/// Records: accepted exactly when whole and with labels 0 to 9, and then encoded back to the same bytes.
pub fn record(data: &[u8]) {
    let is_sound = data.len().is_multiple_of(RECORD_BYTES)
        && data
            .iter()
            .step_by(RECORD_BYTES)
            .all(|label| usize::from(*label) < NUM_CLASSES);
    let parsed = Records::parse(data.to_vec(), Path::new("fuzz"));
    assert_eq!(parsed.is_ok(), is_sound);
    if let Ok(records) = parsed {
        let mut encoded = Vec::new();
        records.iter().for_each(|record| record.encode(&mut encoded));
        assert_eq!(encoded, data);
        assert_eq!(records.len() * RECORD_BYTES, data.len());
        assert!(records.get(records.len()).is_none());
        assert!(records.get(usize::MAX).is_none());
    }
}

/// Containers, plain and compressed: refused, or with the members' exact sizes.
pub fn tar(data: &[u8]) {
    let archive = archive::miniature();
    if let Ok(data) = Cifar10::from_reader(&archive, Path::new("fuzz"), data) {
        assert_eq!((data.train().len(), data.test().len()), (1, 0));
        assert!(usize::from(data.train().label(0)) < NUM_CLASSES);
    }
}

/// Configurations: what is read can be written, and reads back the same.
pub fn configuration(data: &[u8]) {
    let file = scratch::file(data);
    if let Ok(read) = settings::Settings::read(&file) {
        read.validate().expect("what is read is valid");
        let again = scratch::file(read.to_json().as_bytes());
        let again = settings::Settings::read(&again).expect("what is written is read");
        assert_eq!(again, read);
    }
    let flags = settings::TrainFlags {
        config: Some(scratch::file(data)),
        ..Default::default()
    };
    if let Ok(resolved) = settings::resolve(&flags, &|_| None) {
        resolved.settings.validate().expect("what is resolved is valid");
    }
}

/// Rows of metrics: every whole line is one, but for an empty one at the end.
pub fn metrics(data: &[u8]) {
    let file = scratch::file(data);
    if let Ok(rows) = metrics::read_rows(&file) {
        let lines = data.iter().filter(|byte| **byte == b'\n').count();
        assert!(rows.len() == lines || rows.len() + 1 == lines);
    }
}
