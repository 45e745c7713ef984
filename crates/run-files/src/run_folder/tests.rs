//! Folders that are taken, refused and read back.

use super::*;
use crate::settings::differences;

#[test]
fn a_folder_with_a_run_is_refused_unless_resumed() {
    let parent = tempfile::tempdir().expect("a folder");
    let path = parent.path().join("run");
    let folder = RunFolder::create(&path).expect("new");
    folder
        .record(&Settings::default(), "abc", "embedded", &[])
        .expect("recorded");
    assert_eq!(recorded_data_hash(&path).expect("readable"), "abc");
    drop(folder);
    let error = RunFolder::create(&path).expect_err("in use");
    assert!(error.to_string().contains("--resume"), "{error}");
    assert!(RunFolder::resume(&path).expect("resumable").holds_a_run());
    assert_eq!(read_settings(&path).expect("readable"), Settings::default());
}

#[test]
fn checkpoints_without_a_configuration_are_not_taken_over() {
    let parent = tempfile::tempdir().expect("a folder");
    let checkpoint = parent.path().join("checkpoints/epoch-0001-batch-00000");
    fs::create_dir_all(checkpoint).expect("created");
    let error = RunFolder::create(parent.path()).expect_err("a run");
    assert!(matches!(error, RunFolderError::InUse { .. }), "{error}");
}

#[test]
fn one_process_at_a_time() {
    let parent = tempfile::tempdir().expect("a folder");
    let held = RunFolder::create(parent.path()).expect("new");
    let error = RunFolder::resume(parent.path()).expect_err("locked");
    assert!(matches!(error, RunFolderError::Locked { .. }), "{error}");
    drop(held);
    RunFolder::resume(parent.path()).expect("free again");
}

#[test]
fn what_was_first_and_what_came_later_are_both_recorded() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = RunFolder::create(parent.path()).expect("new");
    let read = || {
        let bytes = fs::read(parent.path().join(ENVIRONMENT)).expect("readable");
        serde_json::from_slice::<Value>(&bytes).expect("JSON")
    };
    let settings = Settings::default();
    folder
        .record(&settings, "abc", "here", &[])
        .expect("recorded");
    let first = read();
    assert!(first["resumed"].is_null() && changed_settings(&first).is_empty());
    // The compiler's own words, not the version that the manifest asks for at least.
    let rust = first["versions"]["rust"].as_str().expect("a version");
    assert!(rust.starts_with("rustc 1."), "{rust}");
    let slower = Settings {
        learning_rate: 0.0005,
        ..settings.clone()
    };
    let changed = differences(&settings, &slower);
    folder
        .record(&slower, "abc", "here", &changed)
        .expect("recorded");
    folder
        .record(&slower, "abc", "there", &[])
        .expect("recorded");
    folder
        .record(&slower, "abc", "there", &[])
        .expect("recorded");
    let mut last = read();
    let resumed = last["resumed"].take();
    let resumed = resumed.as_array().expect("a list");
    assert_eq!(resumed.len(), 2, "equal ones count once: {resumed:?}");
    assert_eq!(
        resumed[0]["changed_settings"][0],
        "learning_rate: 0.001 -> 0.0005"
    );
    assert_eq!(resumed[1]["data_source"], "there");
    assert_eq!(
        changed_settings(&read()),
        ["learning_rate: 0.001 -> 0.0005"]
    );
    last.as_object_mut().expect("an object").remove("resumed");
    assert_eq!(last, first);
}

#[cfg(unix)]
#[test]
fn links_that_lead_out_of_the_folder_are_refused_and_nothing_behind_them_is_touched() {
    for name in FOLDERS.into_iter().chain(FILES) {
        let parent = tempfile::tempdir().expect("a folder");
        let victim = parent.path().join("victim");
        if matches!(name, "samples" | "reconstructions" | "checkpoints") {
            fs::create_dir_all(victim.join("photos.old")).expect("created");
        } else {
            fs::write(&victim, b"keep").expect("written");
        }
        let run_dir = parent.path().join("run");
        fs::create_dir(&run_dir).expect("created");
        std::os::unix::fs::symlink(&victim, run_dir.join(name)).expect("linked");
        let error = RunFolder::resume(&run_dir).expect_err("refused");
        assert_eq!(error.exit_code(), 2, "{name}: {error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(
            victim.join("photos.old").exists()
                || fs::read(&victim).is_ok_and(|bytes| bytes == b"keep")
        );
    }
    // In place of a checkpoint: with changed settings its manifest is written anew.
    let parent = tempfile::tempdir().expect("a folder");
    let (run_dir, victim) = (parent.path().join("run"), parent.path().join("victim"));
    fs::create_dir_all(run_dir.join("checkpoints")).expect("created");
    fs::create_dir(&victim).expect("created");
    let inside = run_dir.join("checkpoints/epoch-0001-batch-00000");
    std::os::unix::fs::symlink(&victim, &inside).expect("linked");
    let error = RunFolder::resume(&run_dir).expect_err("refused");
    assert!(
        matches!(error, RunFolderError::LinkInside { .. }),
        "{error}"
    );

    // The folder itself may be one.
    let parent = tempfile::tempdir().expect("a folder");
    fs::create_dir(parent.path().join("elsewhere")).expect("created");
    let linked = parent.path().join("run");
    std::os::unix::fs::symlink(parent.path().join("elsewhere"), &linked).expect("linked");
    RunFolder::create(&linked).expect("taken");
}

/// Opening a pipe waits for somebody at its other end.
#[cfg(unix)]
#[test]
fn pipes_in_place_of_files_are_refused_at_once() {
    let pipe = |path: &Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.expect("mkfifo is there").success());
    };
    for name in FILES {
        let parent = tempfile::tempdir().expect("a folder");
        pipe(&parent.path().join(name));
        let error = RunFolder::resume(parent.path()).expect_err("refused");
        assert!(
            matches!(error, RunFolderError::NoRegularFile { .. }),
            "{error}"
        );
    }
    let parent = tempfile::tempdir().expect("a folder");
    for name in [CONFIG, ENVIRONMENT] {
        pipe(&parent.path().join(name));
    }
    read_settings(parent.path()).expect_err("no settings");
    recorded_data_hash(parent.path()).expect_err("no hash");
}

#[test]
fn a_file_is_no_run_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes.txt");
    fs::write(&path, "mine").expect("written");
    let error = RunFolder::create(&path).expect_err("a file");
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("--run-dir"), "{error}");
    assert_eq!(fs::read(&path).expect("readable"), b"mine");
}
