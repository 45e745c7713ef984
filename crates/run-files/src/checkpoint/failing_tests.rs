//! Every file operation of a save fails once, in every way: what is on the disk is the old checkpoint or the new one.

use std::path::Path;

use super::tests::{checkpoint, newest, run};
use super::*;
use crate::fault_cases::passed;
use crate::files::file_operations::failing::{Failure, count, with_failure};

/// Checkpoints there are before the save that fails.
#[derive(Clone, Copy, Debug)]
enum Before {
    None,
    One,
    /// So many that the save prunes.
    Pruning,
}

impl Before {
    const ALL: [Self; 3] = [Self::None, Self::One, Self::Pruning];

    /// Saves them; the next epoch is returned.
    fn prepare(self, checkpoints: &CheckpointFolder) -> u32 {
        let epochs = match self {
            Self::None => 0,
            Self::One => 1,
            Self::Pruning => 4,
        };
        for epoch in 1..=epochs {
            checkpoints.save(&checkpoint(epoch, 1)).expect("saved");
        }
        epochs + 1
    }
}

/// Whether the newest checkpoint is the one before or the one that was being saved, and nothing else is in the way.
fn check(checkpoints: &CheckpointFolder, epoch: u32, failed: bool, case: &str) {
    let (old, new) = ((epoch > 1).then(|| epoch - 1), Some(epoch));
    let found = newest(checkpoints);
    assert!(found == old || found == new, "{case}: {found:?}");
    if !failed {
        assert_eq!(found, new, "{case}");
    }
    // Whatever is listed is whole: nothing is half written or half deleted under its own name.
    for (position, result) in checkpoints.check_all().expect("listed") {
        let loaded = result.unwrap_or_else(|error| panic!("{case}: {position}: {error}"));
        assert_eq!(loaded, checkpoint(position.epoch, 1), "{case}: a mixture");
    }
    // The next save that succeeds leaves nothing stray.
    checkpoints.save(&checkpoint(epoch + 1, 1)).expect("saved");
    let names = checkpoints.names().expect("listed");
    for name in &names {
        assert!(
            Position::from_folder_name(name).is_some(),
            "{case}: {name} is left over"
        );
    }
    assert!(names.len() <= 3, "{case}: {names:?}");
}

#[test]
fn faults_failing_file_operation_leaves_the_old_checkpoint_or_the_new_one() {
    let mut cases = 0;
    for before in Before::ALL {
        let (_folder, checkpoints) = run();
        let epoch = before.prepare(&checkpoints);
        let operations = count(|| {
            checkpoints.save(&checkpoint(epoch, 1)).expect("saved");
        });
        assert!(operations > 15, "{operations} operations");
        for failure in [Failure::InputOutput, Failure::NoSpace, Failure::ShortWrite] {
            for index in 0..operations {
                let case = format!("{before:?}, {failure:?} at operation {index}");
                let (_folder, checkpoints) = run();
                let epoch = before.prepare(&checkpoints);
                let result =
                    with_failure(index, failure, || checkpoints.save(&checkpoint(epoch, 1)));
                if let Err(CheckpointError::File { source, .. }) = &result {
                    assert_eq!(
                        crate::files::disk::is_full(source),
                        failure != Failure::InputOutput
                    );
                } else {
                    assert!(result.is_ok(), "{case}: {result:?}");
                }
                check(&checkpoints, epoch, result.is_err(), &case);
                cases += 1;
            }
        }
        for index in 0..operations {
            abort_at(before, index, operations);
            cases += 1;
        }
    }
    passed("failing file operation", cases);
}

const ABORT: &str = "TRAINER_TEST_ABORT";

/// Lets a process of its own die at one operation, and looks at what it left.
fn abort_at(before: Before, index: usize, operations: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = std::env::current_exe().expect("this test's program");
    let child = std::process::Command::new(program)
        .args([
            "--exact",
            "checkpoint::failing_tests::dies_where_it_is_told_to",
        ])
        .env(ABORT, format!("{before:?},{index}"))
        .env(format!("{ABORT}_FOLDER"), folder.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .expect("started");
    assert!(
        !child.success(),
        "operation {index} of {operations} did not end the process"
    );
    let checkpoints = CheckpointFolder::of_run(folder.path(), super::tests::PARAMETERS);
    let epoch = match before {
        Before::None => 1,
        Before::One => 2,
        Before::Pruning => 5,
    };
    check(
        &checkpoints,
        epoch,
        true,
        &format!("{before:?}, abort at operation {index}"),
    );
}

/// Does nothing unless [`abort_at`] started it.
#[test]
fn dies_where_it_is_told_to() {
    let (Ok(told), Some(folder)) = (
        std::env::var(ABORT),
        std::env::var_os(format!("{ABORT}_FOLDER")),
    ) else {
        return;
    };
    let (before, index) = told.split_once(',').expect("two parts");
    let before = Before::ALL
        .into_iter()
        .find(|known| format!("{known:?}") == before)
        .expect("a known state");
    let checkpoints = CheckpointFolder::of_run(Path::new(&folder), super::tests::PARAMETERS);
    let epoch = before.prepare(&checkpoints);
    let index = index.parse().expect("a number");
    let _ = with_failure(index, Failure::Abort, || {
        checkpoints.save(&checkpoint(epoch, 1))
    });
}
