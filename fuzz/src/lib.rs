//! What is fuzzed: a function a parser, which takes any bytes and asserts what must hold of whatever is accepted.
//!
//! None of them needs Burn, which would take an hour to compile with coverage.

#![forbid(unsafe_code)]

mod archive;
mod scratch;

use std::path::Path;

use cifar_loader::{Cifar10, NUM_CLASSES, RECORD_BYTES, Records};
use run_files::checkpoint::{Manifest, Position, TrainingState};
use run_files::{metrics, settings};

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
        records
            .iter()
            .for_each(|record| record.encode(&mut encoded));
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
        resolved
            .settings
            .validate()
            .expect("what is resolved is valid");
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

/// Manifests of checkpoints: accepted with the files of one, each within its limit, and then written and read the same.
pub fn manifest(data: &[u8]) {
    const NAMES: [&str; 3] = ["model.safetensors", "optimizer.safetensors", "state.json"];
    const LARGEST: u64 = 1 << 40;
    if let Ok(manifest) = Manifest::parse(data, &NAMES, LARGEST) {
        let entries = manifest.files();
        assert_eq!(entries.len(), NAMES.len());
        for (entry, name) in entries.iter().zip(NAMES) {
            assert_eq!(entry.name, name);
            assert!(entry.bytes <= LARGEST);
            let is_that_file = entry.difference(data).is_none();
            assert!(!is_that_file || entry.bytes == data.len() as u64);
        }
        let again = Manifest::new(entries.to_vec(), manifest.origin().cloned());
        assert_eq!(again, manifest);
        let read = Manifest::parse(&again.to_json(), &NAMES, LARGEST);
        assert_eq!(read.as_ref(), Ok(&manifest));
        // Its settings are read as any file's.
        if let Some(origin) = manifest.origin() {
            let path = Path::new("manifest.json");
            let _ = settings::Settings::from_recorded(path, &origin.settings);
        }
    }
}

/// Training states: what is read can be written, and reads back the same.
pub fn state(data: &[u8]) {
    if let Ok(state) = TrainingState::parse(data) {
        let written = state.to_json();
        let again = TrainingState::parse(&written).expect("what is written is read");
        assert_eq!(again, state);
        assert_eq!(again.to_json(), written);
        let name = state.position().folder_name();
        assert_eq!(Position::from_folder_name(&name), Some(state.position()));
        // A run goes on from any of them.
        let (mut guard, mut schedule) = (state.guard, state.schedule);
        let settings = settings::Settings::default();
        guard.saw_loss(state.step, 1.0);
        guard.skips_large(1.0, Some(2.0));
        guard.skip_non_finite();
        schedule.learning_rate_at(&settings, state.step);
        schedule.epoch_ended(&settings, state.epoch, 1.0);
        schedule.epoch_ended(&settings, state.epoch, f64::NAN);
        schedule.adopt_settings(&settings, state.epoch);
        schedule.smaller_rate(&settings);
    }
    if let Ok(name) = std::str::from_utf8(data)
        && let Some(position) = Position::from_folder_name(name)
    {
        assert_eq!(position.folder_name(), name);
    }
}
