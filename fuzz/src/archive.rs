//! An archive small enough that a fuzzer gets through all of it: one training record, and an empty test file.

use cifar_loader::{KnownArchive, Member, PublishedSplit, RECORD_BYTES};

/// Lengths are checked, hashes are not: those would stop every damage before it reaches the parsers behind them.
pub(crate) fn miniature() -> KnownArchive {
    let member = |name: &'static str, split, bytes| Member {
        name: name.into(),
        split,
        bytes,
        sha256: None,
    };
    KnownArchive {
        name: "miniature".into(),
        file_name: "miniature.tar.gz".into(),
        folder: "f".into(),
        members: vec![
            member("a.bin", PublishedSplit::Train, RECORD_BYTES as u64),
            member("b.bin", PublishedSplit::Test, 0),
        ]
        .into(),
        container: None,
    }
}
