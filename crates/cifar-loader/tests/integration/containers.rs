use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use cifar_loader::{Cifar10, Error, KnownArchive, import_file};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use crate::fixture::{
    FOLDER, Tar, archive, archive_without_hashes, assert_published, contents, gzip, listing, tar,
};

/// Imports `container` and loads it; both must agree, and a refusal must leave nothing.
fn import(archive: &KnownArchive, container: &[u8]) -> Result<(), Error> {
    let source = tempfile::tempdir().unwrap();
    let file = source.path().join(&*archive.file_name);
    fs::write(&file, container).unwrap();
    let target = tempfile::tempdir().unwrap();
    let outcome = import_file(archive, target.path(), &file, &mut |_| {});
    match &outcome {
        Ok(_) => assert_published(target.path()),
        Err(_) => assert_eq!(listing(target.path()), Vec::<String>::new()),
    }
    assert_eq!(listing(source.path()).len(), 1);
    let loaded = Cifar10::load_archive(archive, source.path());
    assert_eq!(loaded.is_ok(), outcome.is_ok(), "{loaded:?}");
    outcome.map(drop)
}

fn refused(tar: Tar) -> Error {
    import(&archive(), &gzip(&tar.finish())).unwrap_err()
}

#[test]
fn every_way_of_packing_the_members_is_accepted() {
    import(&archive(), &gzip(&tar())).unwrap();
    // Inflated by a browser.
    import(&archive(), &tar()).unwrap();
    // Cut into gzip members, as parallel compressors do.
    let bytes = tar();
    let (front, back) = bytes.split_at(70_000);
    import(&archive(), &[gzip(front), gzip(back)].concat()).unwrap();
    // Other order, a leading "./", other files.
    let reversed = contents()
        .into_iter()
        .rev()
        .fold(Tar::default(), |tar, (name, _, bytes)| {
            tar.file(&format!("./{FOLDER}/{name}"), &bytes)
                .file("readme.html", b"<html>")
        });
    import(&archive(), &gzip(&reversed.finish())).unwrap();
    // Something behind the last member.
    import(&archive(), &[gzip(&tar()), b"trailing".to_vec()].concat()).unwrap();
}

#[test]
fn what_is_no_archive_is_named() {
    let found = |bytes: &[u8]| import(&archive(), bytes).unwrap_err().to_string();
    assert!(found(b"<html><body>503</body></html>").contains("found an HTML page"));
    assert!(found(b"").contains("found an empty file"));
    assert!(found(b"PK\x03\x04").contains("found a zip file"));
    assert!(found(b"\x80\x02}q\x01").contains("found a Python pickle"));
    assert!(found(b"\x01\x02\x03\x04\x05").contains("found bytes 01 02 03 04"));
}

#[test]
fn the_python_version_is_named() {
    let error = refused(Tar::default().file("cifar-10-batches-py/data_batch_1", b"\x80\x02"));
    assert!(matches!(error, Error::PythonVersion { .. }), "{error}");
    assert_eq!(error.exit_code(), 12);
}

#[test]
fn a_truncated_container_is_refused_at_every_length() {
    let container = gzip(&tar());
    for length in (0..container.len() - 2000).step_by(4999) {
        let error = import(&archive(), &container[..length]).unwrap_err();
        let is_expected = match length {
            0 => matches!(error, Error::NotGzip { .. }),
            _ => matches!(error, Error::TruncatedArchive { .. }),
        };
        assert!(is_expected, "{length}: {error}");
    }
}

#[test]
fn a_member_of_wrong_size_hash_or_kind_is_refused() {
    let (name, _, bytes) = contents().remove(0);
    let path = format!("{FOLDER}/{name}");
    let error = refused(Tar::default().file(&path, &bytes[1..]).members_from(1));
    assert!(
        matches!(
            error,
            Error::WrongSize {
                expected: 61_460,
                found: 61_459,
                ..
            }
        ),
        "{error}"
    );
    let mut flipped = bytes.clone();
    flipped[100] ^= 4;
    let error = refused(Tar::default().file(&path, &flipped).members_from(1));
    assert!(matches!(error, Error::ChecksumMismatch { .. }), "{error}");
    assert_eq!(error.exit_code(), 11);
    // Hard link, symbolic link, character device, block device, folder, pipe, contiguous, sparse.
    for kind in [b'1', b'2', b'3', b'4', b'5', b'6', b'7', b'S'] {
        let error = refused(
            Tar::default()
                .entry(&path, kind, bytes.len() as u64, &bytes)
                .members_from(1),
        );
        assert!(
            matches!(error, Error::NotARegularFile { .. }),
            "{}: {error}",
            char::from(kind)
        );
    }
    let error = refused(Tar::default().members_from(1));
    assert!(matches!(error, Error::MissingMember { .. }), "{error}");
}

#[test]
fn a_second_copy_of_a_member_is_refused() {
    let (name, _, bytes) = contents().remove(0);
    let path = format!("{FOLDER}/{name}");
    let error = refused(Tar::default().file(&path, &bytes).members_from(0));
    assert!(matches!(error, Error::DuplicateMember { .. }), "{error}");
    let error = refused(Tar::default().members_from(0).file(&path, &bytes));
    assert!(matches!(error, Error::DuplicateMember { .. }), "{error}");
}

#[test]
fn paths_in_the_container_lead_nowhere() {
    for path in [
        "../escape",
        "/tmp/cifar-loader-escape",
        "cifar-10-batches-bin/../../escape",
        "a/../../b",
    ] {
        let hostile = Tar::default()
            .file(path, b"evil")
            .entry(path, b'2', 0, &[])
            .entry("cifar-10-batches-bin", b'2', 0, &[])
            .members_from(0);
        import(&archive(), &gzip(&hostile.finish())).unwrap();
    }
    assert!(!Path::new("/tmp/cifar-loader-escape").exists());
}

#[test]
fn extended_headers_have_no_effect() {
    let record = |key: &str, value: &str| {
        let rest = format!(" {key}={value}\n");
        let length = (rest.len()..)
            .find(|length| length.to_string().len() + rest.len() == *length)
            .unwrap();
        format!("{length}{rest}")
    };
    let hostile = [
        record("size", "5"),
        record("size", "99999999999999"),
        record("path", "../../escape"),
        record("GNU.sparse.realsize", "99999999999"),
        "not a record".to_owned(),
    ];
    for text in &hostile {
        for kind in [b'x', b'g', b'L', b'K'] {
            let tar = Tar::default()
                .entry("header", kind, text.len() as u64, text.as_bytes())
                .members_from(0);
            import(&archive(), &gzip(&tar.finish())).unwrap();
        }
    }
    // A header that claims more than there is.
    let error = refused(
        Tar::default()
            .entry("header", b'x', u64::MAX / 2, b"x")
            .members_from(0),
    );
    assert_eq!(error.exit_code(), 12, "{error}");
    let error = refused(
        Tar::default()
            .entry("big", b'0', u64::MAX, b"x")
            .members_from(0),
    );
    assert_eq!(error.exit_code(), 12, "{error}");
}

#[test]
fn a_bomb_ends_at_the_cap() {
    let start = Instant::now();
    for kind in [b'0', b'x', b'L'] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder
            .write_all(&Tar::default().entry("bomb", kind, 10 << 30, &[]).finish()[..512])
            .unwrap();
        std::io::copy(&mut std::io::repeat(0).take(64 << 20), &mut encoder).unwrap();
        let error = import(&archive(), &encoder.finish().unwrap()).unwrap_err();
        assert!(
            matches!(error, Error::ArchiveLimit { what: "bytes", .. }),
            "{error}"
        );
    }
    let many = (0..100).fold(Tar::default(), |tar, index| {
        tar.file(&format!("file-{index}"), &[])
    });
    let error = refused(many.members_from(0));
    assert!(
        matches!(
            error,
            Error::ArchiveLimit {
                what: "entries",
                ..
            }
        ),
        "{error}"
    );
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_wrong_label_in_a_container_is_refused_when_loaded() {
    let mut archive = archive_without_hashes();
    archive.members.to_mut().truncate(1);
    let (name, _, mut bytes) = contents().remove(0);
    bytes[3073] = 10;
    let folder = tempfile::tempdir().unwrap();
    let tar = Tar::default()
        .file(&format!("{FOLDER}/{name}"), &bytes)
        .finish();
    fs::write(folder.path().join(&*archive.file_name), gzip(&tar)).unwrap();
    let error = Cifar10::load_archive(&archive, folder.path()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::LabelOutOfRange {
                offset: 3073,
                found: 10,
                ..
            }
        ),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn damage_is_refused_or_has_no_effect(bit in 0usize..1 << 20, with_hashes: bool) {
        let mut container = gzip(&tar());
        let bit = bit % (container.len() * 8);
        container[bit / 8] ^= 1 << (bit % 8);
        let archive = if with_hashes { archive() } else { archive_without_hashes() };
        // `import` asserts that what is accepted is exact and what is refused leaves nothing.
        let _ = import(&archive, &container);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000), wrap in 0..3) {
        let container = match wrap {
            0 => bytes,
            1 => gzip(&bytes),
            _ => [&[0x1f, 0x8b, 8][..], &bytes].concat(),
        };
        prop_assert!(import(&archive(), &container).is_err());
    }
}
