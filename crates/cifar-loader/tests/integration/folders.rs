use std::fs;

use cifar_loader::{Cifar10, Error, Source};

use crate::fixture::{
    FOLDER, archive, archive_without_hashes, contents, gzip, listing, tar, unpack,
};

#[test]
fn a_folder_unpacked_by_hand_loads_in_order() {
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path());
    let data = Cifar10::load_archive(&archive(), folder.path()).unwrap();
    assert_eq!(data.source(), &Source::Folder(folder.path().join(FOLDER)));
    assert_eq!((data.train().len(), data.test().len()), (40, 10));
    let second = &contents()[1].2;
    assert_eq!(data.train().label(20), second[0]);
    assert_eq!(data.train().image(20)[..], second[1..3073]);
    assert_eq!(listing(folder.path()).len(), 4, "loading writes nothing");
}

#[test]
fn folder_and_container_give_the_same_data() {
    let (left, right) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    unpack(left.path());
    fs::write(right.path().join("cifar-10-binary.tar.gz"), gzip(&tar())).unwrap();
    let left = Cifar10::load_archive(&archive(), left.path()).unwrap();
    let right = Cifar10::load_archive(&archive(), right.path()).unwrap();
    assert_eq!(left.fingerprint(), right.fingerprint());
    assert_eq!(left.train().image(39), right.train().image(39));
}

#[test]
fn a_damaged_file_is_named_with_both_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FOLDER).join("data_batch_2.bin");
    let check = |bytes: &[u8]| {
        unpack(folder.path());
        fs::write(&path, bytes).unwrap();
        let error = Cifar10::load_archive(&archive(), folder.path()).unwrap_err();
        assert!(
            error.to_string().starts_with(&path.display().to_string()),
            "{error}"
        );
        assert!(
            error.to_string().contains("cargo xtask download"),
            "{error}"
        );
        error
    };
    let whole = contents().remove(1).2;
    let error = check(&whole[..whole.len() - 1]);
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
    let error = check(&[&whole[..], b"x"].concat());
    assert!(
        matches!(error, Error::WrongSize { found: 61_461, .. }),
        "{error}"
    );
    let mut flipped = whole.clone();
    flipped[40_000] ^= 0x80;
    let error = check(&flipped);
    assert!(matches!(error, Error::ChecksumMismatch { .. }), "{error}");
    assert_eq!(error.exit_code(), 11);
}

#[test]
fn a_wrong_label_is_named_with_file_and_offset() {
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path());
    let path = folder.path().join(FOLDER).join("test_batch.bin");
    let mut bytes = contents().remove(2).2;
    bytes[3073 * 4] = 77;
    fs::write(&path, bytes).unwrap();
    let error = Cifar10::load_archive(&archive_without_hashes(), folder.path()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::LabelOutOfRange {
                offset: 12_292,
                found: 77,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_missing_file_is_named_and_a_container_stands_in() {
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path());
    fs::remove_file(folder.path().join(FOLDER).join("data_batch_2.bin")).unwrap();
    let error = Cifar10::load_archive(&archive(), folder.path()).unwrap_err();
    assert!(
        matches!(&error, Error::MissingMember { member, .. } if member == "data_batch_2.bin"),
        "{error}"
    );
    fs::write(folder.path().join("cifar-10-binary.tar.gz"), gzip(&tar())).unwrap();
    Cifar10::load_archive(&archive(), folder.path()).unwrap();
}

#[test]
fn a_folder_in_place_of_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    unpack(folder.path());
    let path = folder.path().join(FOLDER).join("test_batch.bin");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = Cifar10::load_archive(&archive(), folder.path()).unwrap_err();
    assert!(matches!(error, Error::NotARegularFile { .. }), "{error}");
}

#[test]
fn the_samples_container_is_not_taken_for_the_data_set() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cifar-10-sample.tar.gz"), b"x").unwrap();
    let error = Cifar10::load(folder.path()).unwrap_err();
    assert!(matches!(error, Error::DatasetMissing { .. }), "{error}");
}
