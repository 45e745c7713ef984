//! An archive small enough that a fuzzer gets through all of it: one training record, and an empty test file.

use cifar_loader::{KnownArchive, Member, Part, RECORD_BYTES};

/// Lengths are checked, hashes are not: those would stop every damage before it reaches the parsers behind them.
pub(crate) fn miniature() -> KnownArchive {
    let member = |name: &'static str, part, bytes| Member {
        name: name.into(),
        part,
        bytes,
        sha256: None,
    };
    KnownArchive {
        name: "miniature".into(),
        file_name: "miniature.tar.gz".into(),
        folder: "f".into(),
        members: vec![
            member("a.bin", Part::Train, RECORD_BYTES as u64),
            member("b.bin", Part::Test, 0),
        ]
        .into(),
        container: None,
    }
}
