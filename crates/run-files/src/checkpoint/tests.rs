use std::fs;

use super::folder::{MANIFEST, MODEL, OPTIMIZER, STATE};
use super::*;
use crate::fault_cases::{cases, passed};
use crate::metrics::MetricsLengths;
use crate::schedule::Schedule;
use crate::settings::Settings;
use crate::weights::NamedValues;

pub(super) const PARAMETERS: usize = 600;

/// The checkpoint at the end of an epoch of 80 steps.
pub(super) fn checkpoint(epoch: u32, best: u32) -> Checkpoint {
    let values = |value: f32| {
        NamedValues::from([("dense.weight".to_owned(), (vec![20, 30], vec![value; 600]))])
    };
    let settings = Settings {
        seed: 1 << 63 | 1,
        ..Settings::default()
    };
    Checkpoint {
        origin: Some(Origin {
            settings: settings.recorded(),
            data_hash: "0123456789abcdef".to_owned(),
        }),
        model: values(epoch as f32 + 0.1),
        optimizer: values(-(epoch as f32)),
        state: TrainingState {
            epoch,
            step: 80 * epoch as u64,
            updates: 79 * epoch as u64,
            best: Some(Position {
                epoch: best,
                batches: 0,
            }),
            metrics: MetricsLengths { jsonl: 10, csv: 20 },
            ..TrainingState::new(Schedule {
                best: Some((0.1 + 0.2, best)),
                ..Schedule::new(&Settings::default())
            })
        },
    }
}

pub(super) fn run() -> (tempfile::TempDir, CheckpointFolder) {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoints = CheckpointFolder::of_run(folder.path(), PARAMETERS);
    (folder, checkpoints)
}

/// The epoch of the newest intact checkpoint.
pub(super) fn newest(checkpoints: &CheckpointFolder) -> Option<u32> {
    let newest = checkpoints.load_newest().ok()?;
    newest.map(|(checkpoint, _)| checkpoint.state.epoch)
}

fn end_of(epoch: u32) -> Position {
    Position { epoch, batches: 0 }
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
    assert_eq!(
        checkpoints.positions().expect("listed"),
        [2, 5, 6].map(end_of)
    );
}

#[test]
fn checkpoints_within_an_epoch_come_between_its_ends() {
    let (_folder, checkpoints) = run();
    checkpoints.save(&checkpoint(1, 1)).expect("saved");
    let mut within = checkpoint(1, 1);
    within.state.batches = 7;
    within.state.step += 7;
    checkpoints.save(&within).expect("saved");
    let (loaded, _) = checkpoints.load_newest().expect("intact").expect("present");
    assert_eq!(loaded, within);
    checkpoints.save(&checkpoint(2, 2)).expect("saved");
    assert_eq!(newest(&checkpoints), Some(2));
    for name in ["epoch-2-batch-0", "epoch-0002-batch-00000.tmp", "other"] {
        assert_eq!(Position::from_folder_name(name), None, "{name}");
    }
}

/// Damages one file and says whether the damage was noticed: the checkpoint before is used and the failure told.
fn is_noticed(checkpoints: &CheckpointFolder, name: &str, damaged: &[u8]) -> bool {
    let file = checkpoints.path(end_of(2)).join(name);
    let intact = fs::read(&file).expect("readable");
    fs::write(&file, damaged).expect("written");
    let (loaded, failures) = checkpoints
        .load_newest()
        .expect("one is intact")
        .expect("present");
    fs::write(&file, intact).expect("written");
    if loaded.state.epoch == 1 {
        assert_eq!(loaded, checkpoint(1, 1));
        assert_eq!(failures.len(), 1);
        true
    } else {
        // White space of the manifest, or the case of a letter in a key's escape, has no meaning.
        assert_eq!(loaded, checkpoint(2, 1), "{name}");
        false
    }
}

#[test]
fn faults_damaged_checkpoint_is_noticed_and_the_previous_one_used() {
    let (_folder, checkpoints) = run();
    checkpoints.save(&checkpoint(1, 1)).expect("saved");
    checkpoints.save(&checkpoint(2, 1)).expect("saved");
    let path = checkpoints.path(end_of(2));
    let (mut count, wanted) = (0, cases(300, 2_000, 20_000));
    let files = [MODEL, OPTIMIZER, STATE, MANIFEST];
    let contents = files.map(|name| fs::read(path.join(name)).expect("readable"));
    let sizes: usize = contents.iter().map(Vec::len).sum();
    for (name, intact) in files.into_iter().zip(&contents) {
        // Bits spread evenly over all four files, every one of them where there are enough cases.
        let bits = 8 * intact.len();
        let share = (wanted * intact.len() / sizes).clamp(20, bits);
        for case in 0..share {
            let bit = case * bits / share;
            let mut flipped = intact.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let noticed = is_noticed(&checkpoints, name, &flipped);
            assert!(noticed || name == MANIFEST, "{name}, bit {bit}");
            count += 1;
        }
        for length in (0..intact.len()).step_by(intact.len().div_ceil(64)) {
            assert!(
                is_noticed(&checkpoints, name, &intact[..length]),
                "{name} cut to {length}"
            );
            count += 1;
        }
        for more in [1, 100] {
            let longer = [&intact[..], &vec![b'x'; more]].concat();
            assert!(
                is_noticed(&checkpoints, name, &longer),
                "{name} longer by {more}"
            );
            count += 1;
        }
        // The same file of another step.
        let other = fs::read(checkpoints.path(end_of(1)).join(name)).expect("readable");
        assert!(is_noticed(&checkpoints, name, &other), "{name} of epoch 1");
        // Deleted.
        fs::remove_file(path.join(name)).expect("removed");
        assert_eq!(newest(&checkpoints), Some(1), "{name}");
        fs::write(path.join(name), intact).expect("written");
        count += 2;
    }
    assert_eq!(newest(&checkpoints), Some(2));
    passed("damaged checkpoint", count);
}

#[test]
fn a_folder_under_another_epochs_name_is_refused() {
    let (_folder, checkpoints) = run();
    checkpoints.save(&checkpoint(1, 1)).expect("saved");
    fs::rename(checkpoints.path(end_of(1)), checkpoints.path(end_of(9))).expect("renamed");
    let error = checkpoints
        .load_newest()
        .expect_err("nothing intact is left");
    assert!(error.to_string().contains("epoch 9"), "{error}");
}

#[test]
fn a_manifest_that_asks_for_more_than_a_model_has_is_refused_before_it_is_read() {
    let (_folder, checkpoints) = run();
    checkpoints.save(&checkpoint(1, 1)).expect("saved");
    let path = checkpoints.path(end_of(1)).join(MANIFEST);
    let text = fs::read_to_string(&path).expect("readable");
    let entry = text.find("\"bytes\": ").expect("a size") + "\"bytes\": ".len();
    let huge = format!("{}9000000000{}", &text[..entry], &text[entry..]);
    fs::write(&path, huge).expect("written");
    let error = checkpoints.load(end_of(1)).expect_err("too large");
    assert!(error.to_string().contains("at most"), "{error}");
}

#[test]
fn an_unfinished_checkpoint_is_ignored_and_cleared_away() {
    let (_folder, checkpoints) = run();
    checkpoints.save(&checkpoint(1, 1)).expect("saved");
    let unfinished = checkpoints.folder.join("epoch-0002-batch-00000.tmp");
    fs::create_dir(&unfinished).expect("created");
    fs::write(unfinished.join(MODEL), b"half").expect("written");
    assert_eq!(newest(&checkpoints), Some(1));
    checkpoints.save(&checkpoint(2, 1)).expect("saved");
    assert!(!unfinished.exists());
}

#[test]
fn only_what_saves_have_made_is_cleared_away() {
    let (_folder, checkpoints) = run();
    checkpoints.save(&checkpoint(1, 1)).expect("saved");
    let users = [
        "backup.old",
        "x.tmp",
        "epoch-1.old",
        "photos.old",
        "epoch-0001-batch-00000.bak.old",
    ];
    for name in &users[..2] {
        fs::create_dir(checkpoints.folder.join(name)).expect("created");
    }
    for name in &users[2..] {
        fs::write(checkpoints.folder.join(name), b"mine").expect("written");
    }
    // What a save left that was cut short: as a folder, as a file, and where an earlier removal failed.
    let ours = [
        "epoch-0007-batch-00000.tmp",
        "epoch-0007-batch-00000.old",
        "epoch-0007-batch-00000.2.old",
    ];
    fs::create_dir(checkpoints.folder.join(ours[0])).expect("created");
    fs::write(checkpoints.folder.join(ours[1]), b"a file").expect("written");
    fs::create_dir(checkpoints.folder.join(ours[2])).expect("created");
    assert!(
        checkpoints
            .save(&checkpoint(2, 1))
            .expect("saved")
            .is_empty()
    );
    for name in users {
        assert!(checkpoints.folder.join(name).exists(), "{name}");
    }
    for name in ours {
        assert!(!checkpoints.folder.join(name).exists(), "{name}");
    }
}

#[test]
fn what_a_kept_checkpoint_names_is_kept() {
    let (_folder, checkpoints) = run();
    for epoch in 1..=3 {
        checkpoints.save(&checkpoint(epoch, 1)).expect("saved");
    }
    // The fourth epoch is the best: the third still names the first.
    checkpoints.save(&checkpoint(4, 4)).expect("saved");
    assert_eq!(
        checkpoints.positions().expect("listed"),
        [1, 3, 4].map(end_of)
    );
    fs::write(checkpoints.path(end_of(4)).join(MODEL), b"damaged").expect("written");
    let (loaded, _) = checkpoints.load_newest().expect("intact").expect("present");
    let best = loaded.state.best.expect("a best epoch");
    checkpoints.load(best).expect("the best of the older one");
    // Nobody names it any more.
    checkpoints.save(&checkpoint(4, 4)).expect("saved");
    checkpoints.save(&checkpoint(5, 4)).expect("saved");
    assert_eq!(checkpoints.positions().expect("listed"), [4, 5].map(end_of));
}

#[test]
fn a_checkpoint_of_an_older_program_has_no_settings_and_can_be_given_some() {
    let (_folder, checkpoints) = run();
    let old = Checkpoint {
        origin: None,
        ..checkpoint(1, 1)
    };
    checkpoints.save(&old).expect("saved");
    let manifest = fs::read_to_string(checkpoints.path(end_of(1)).join(MANIFEST));
    assert!(manifest.expect("text").contains("\"format\": 2"));
    assert_eq!(checkpoints.load(end_of(1)).expect("intact"), old);
    assert_eq!(checkpoints.newest_origin().expect("listed"), None);
    let origin = checkpoint(1, 1).origin.expect("one");
    checkpoints
        .set_origin(end_of(1), origin.clone())
        .expect("written");
    assert_eq!(
        checkpoints.load(end_of(1)).expect("intact"),
        checkpoint(1, 1)
    );
    let newest = checkpoints.newest_origin().expect("listed");
    assert_eq!(newest, Some((end_of(1), origin)));
}

#[test]
fn a_position_that_proved_corrupt_is_saved_anew_and_an_intact_one_is_left_alone() {
    let (_folder, checkpoints) = run();
    checkpoints.save(&checkpoint(1, 1)).expect("saved");
    let file = checkpoints.path(end_of(1)).join(MODEL);
    let intact = fs::read(&file).expect("readable");
    fs::write(&file, b"damaged").expect("written");
    checkpoints.save(&checkpoint(1, 1)).expect("saved");
    assert_eq!(fs::read(&file).expect("readable"), intact);
    let time = fs::metadata(&file)
        .expect("there")
        .modified()
        .expect("a time");
    checkpoints.save(&checkpoint(1, 1)).expect("saved");
    assert_eq!(
        fs::metadata(&file)
            .expect("there")
            .modified()
            .expect("a time"),
        time
    );
}

#[test]
fn damaged_newer_checkpoints_do_not_crowd_out_what_is_saved_after_them() {
    let (_folder, checkpoints) = run();
    for epoch in 1..=3 {
        checkpoints.save(&checkpoint(epoch, 1)).expect("saved");
    }
    for epoch in [2, 3] {
        fs::write(checkpoints.path(end_of(epoch)).join(MODEL), b"damaged").expect("written");
    }
    assert_eq!(newest(&checkpoints), Some(1));
    let mut next = checkpoint(1, 1);
    next.state.batches = 5;
    next.state.step += 5;
    checkpoints.save(&next).expect("saved");
    let (loaded, failures) = checkpoints.load_newest().expect("intact").expect("present");
    assert_eq!(loaded, next);
    assert!(failures.is_empty());
}
