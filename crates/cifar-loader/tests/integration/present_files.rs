//! Downloads into a folder that already has something.

use std::fs;
use std::path::Path;

use cifar_loader::{Error, import_file};

use crate::downloads::{PART, options, run, server};
use crate::fixture::{self, FOLDER, archive, assert_published, gzip, tar};
use crate::server::Answer;

#[test]
fn what_is_there_is_verified_and_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    fixture::unpack(folder.path());
    let (outcome, events) = run(folder.path(), &options(&[]));
    outcome.unwrap();
    assert_eq!(events, ["AlreadyPresent"]);

    // A damaged member is replaced.
    let member = folder.path().join(FOLDER).join("test_batch.bin");
    fs::write(member, b"short").unwrap();
    run(folder.path(), &options(&[&server(&[Answer::File])]))
        .0
        .unwrap();
    assert_published(folder.path());
}

#[test]
fn leftovers_of_a_killed_process_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let members = folder.path().join(FOLDER);
    fs::create_dir(&members).unwrap();
    fs::write(members.join(".test_batch.bin.999999.tmp"), b"half").unwrap();
    fs::write(
        folder.path().join(".cifar-10-binary.tar.gz.lock"),
        b"999999",
    )
    .unwrap();
    run(folder.path(), &options(&[&server(&[Answer::File])]))
        .0
        .unwrap();
    assert_published(folder.path());
}

#[test]
fn a_partial_file_beside_complete_members_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    fixture::unpack(folder.path());
    fs::write(folder.path().join(PART), gzip(&tar())).unwrap();
    run(folder.path(), &options(&[])).0.unwrap();
    assert_published(folder.path());
}

#[test]
fn a_container_in_the_folder_is_used_before_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let container = folder.path().join("cifar-10-binary.tar.gz");
    fs::write(&container, gzip(&tar())).unwrap();
    run(folder.path(), &options(&[])).0.unwrap();
    assert!(container.exists(), "it belongs to somebody else");
    assert!(folder.path().join(FOLDER).join("test_batch.bin").exists());
}

#[test]
fn a_file_is_imported_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("copy.tgz");
    fs::write(&file, gzip(&tar())).unwrap();
    import_file(&archive(), folder.path(), &file, &mut |_| {}).unwrap();
    assert_published(folder.path());
    assert!(file.exists());

    let missing = import_file(
        &archive(),
        elsewhere.path(),
        Path::new("nowhere.tar.gz"),
        &mut |_| {},
    );
    assert!(matches!(missing, Err(Error::Read { .. })));
}
