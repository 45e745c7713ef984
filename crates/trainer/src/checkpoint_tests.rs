use super::*;
use crate::settings::Settings;

fn checkpoint(epoch: u32, best: u32) -> Checkpoint {
    let values =
        |value: f32| NamedValues::from([("dense.weight".to_owned(), (vec![2, 3], vec![value; 6]))]);
    Checkpoint {
        model: values(epoch as f32 + 0.1),
        optimizer: values(-(epoch as f32)),
        state: TrainingState {
            epoch,
            step: 80 * epoch as u64,
            schedule: Schedule {
                best: Some((0.1 + 0.2, best)),
                ..Schedule::new(&Settings::default())
            },
            metrics: MetricsLengths { jsonl: 10, csv: 20 },
            stopped: false,
        },
    }
}

fn run() -> (tempfile::TempDir, CheckpointFolder) {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = CheckpointFolder::of_run(folder.path());
    (folder, checkpoints)
}

#[test]
fn what_is_saved_is_loaded_bit_for_bit() {
    let (_folder, checkpoints) = run();
    assert!(
        checkpoints
            .load_newest()
            .expect("an empty run is no error")
            .is_none()
    );
    checkpoints.save(&checkpoint(1, 1)).expect("saved");
    let (loaded, failures) = checkpoints.load_newest().expect("intact").expect("present");
    assert_eq!(loaded, checkpoint(1, 1));
    assert!(failures.is_empty());
}

#[test]
fn the_newest_two_and_the_best_are_kept() {
    let (_folder, checkpoints) = run();
    for epoch in 1..=6 {
        checkpoints
            .save(&checkpoint(epoch, epoch.min(2)))
            .expect("saved");
    }
    assert_eq!(checkpoints.epochs().expect("listed"), [2, 5, 6]);
}

#[test]
fn every_flipped_bit_and_truncation_is_detected_and_the_previous_one_is_used() {
    let (_folder, checkpoints) = run();
    checkpoints.save(&checkpoint(1, 1)).expect("saved");
    checkpoints.save(&checkpoint(2, 1)).expect("saved");
    let path = checkpoints.path(2);
    for name in [MODEL, OPTIMIZER, STATE, MANIFEST] {
        let file = path.join(name);
        let intact = fs::read(&file).expect("readable");
        for position in (0..intact.len()).step_by(7) {
            let mut flipped = intact.clone();
            flipped[position] ^= 1 << (position % 8);
            fs::write(&file, flipped).expect("written");
            let (loaded, failures) = checkpoints
                .load_newest()
                .expect("one is intact")
                .expect("present");
            // A bit of the manifest's white space, or of a letter's case in a hash, may be without meaning.
            if name != MANIFEST || loaded.state.epoch == 1 {
                assert_eq!(loaded, checkpoint(1, 1), "{name} at {position}");
                assert_eq!(failures.len(), 1);
            } else {
                assert_eq!(loaded, checkpoint(2, 1), "{name} at {position}");
            }
        }
        for length in [0, 1, intact.len() / 2, intact.len() - 1] {
            fs::write(&file, &intact[..length]).expect("written");
            let (loaded, _) = checkpoints
                .load_newest()
                .expect("one is intact")
                .expect("present");
            assert_eq!(loaded.state.epoch, 1, "{name} cut to {length}");
        }
        fs::write(&file, intact).expect("written");
    }
    fs::remove_file(path.join(MODEL)).expect("removed");
    assert_eq!(
        checkpoints
            .load_newest()
            .expect("intact")
            .expect("present")
            .0
            .state
            .epoch,
        1
    );
}

#[test]
fn a_folder_under_another_epochs_name_is_refused() {
    let (_folder, checkpoints) = run();
    checkpoints.save(&checkpoint(1, 1)).expect("saved");
    fs::rename(checkpoints.path(1), checkpoints.path(9)).expect("renamed");
    let error = checkpoints
        .load_newest()
        .expect_err("nothing intact is left");
    assert!(error.to_string().contains("epoch 9"), "{error}");
}

#[test]
fn an_unfinished_checkpoint_is_ignored_and_cleared_away() {
    let (_folder, checkpoints) = run();
    checkpoints.save(&checkpoint(1, 1)).expect("saved");
    let unfinished = checkpoints.folder.join("epoch-0002.tmp");
    fs::create_dir(&unfinished).expect("created");
    fs::write(unfinished.join(MODEL), b"half").expect("written");
    assert_eq!(
        checkpoints
            .load_newest()
            .expect("intact")
            .expect("present")
            .0
            .state
            .epoch,
        1
    );
    checkpoints.save(&checkpoint(2, 1)).expect("saved");
    assert!(!unfinished.exists());
}
