//! Run folders that were edited, and that hold links.

use std::fs;
use std::path::Path;

use end_to_end_tests::faults::{cases, passed};
use end_to_end_tests::{Bench, Ended, tiny};

pub(super) const TINY: &str = "--limit-train 60 --limit-test 10 --json --run-dir";

pub(super) fn train(bench: &Bench, run_dir: &str, more: &[&str]) -> Ended {
    bench.trainer(&[&tiny(TINY)[..], &[run_dir], more].concat())
}

pub(super) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("created");
    for entry in fs::read_dir(from).expect("listed").flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

fn edit(bench: &Bench, name: &str, before: &str, after: &str) {
    let text = bench.read_text(name);
    assert!(text.contains(before), "no {before} in {name}");
    fs::write(bench.path(name), text.replace(before, after)).expect("written");
}

/// Everything that `--resume` and every command on a run must say of an edited `config.json`: the checkpoint decides.
#[test]
fn faults_edited_run_is_refused_by_what_its_checkpoint_recorded() {
    let bench = Bench::new();
    // No float64 holds it: what a tool makes of it that knows no other numbers is ...808.
    let seed = "9223372036854775809";
    train(&bench, "r", &["--epochs", "1", "--seed", seed]).success();
    let edits = [
        (format!("\"seed\": {seed}"), "\"seed\": 7", "seed"),
        (
            format!("\"seed\": {seed}"),
            "\"seed\": 9223372036854775808",
            "seed",
        ),
        (
            "\"latent_dim\": 4".to_owned(),
            "\"latent_dim\": 5",
            "latent_dim",
        ),
        (
            "\"batch_size\": 25".to_owned(),
            "\"batch_size\": 20",
            "batch_size",
        ),
        (
            "\"limit_test\": 10".to_owned(),
            "\"limit_test\": 9",
            "limit_test",
        ),
        (
            "\"activation\": \"sigmoid\"".to_owned(),
            "\"activation\": \"relu\"",
            "activation",
        ),
        (
            "\"learning_rate\": 0.001".to_owned(),
            "\"learning_rate\": 0.002",
            "learning_rate",
        ),
    ];
    let count = cases(4, 7, 7);
    for (before, after, key) in &edits[..count] {
        let checkpoints = || {
            fs::read_dir(bench.path("r/checkpoints"))
                .expect("listed")
                .count()
        };
        let there = checkpoints();
        let config = bench.read("r/config.json");
        edit(&bench, "r/config.json", before, after);
        bench
            .trainer(&["train", "--run-dir", "r", "--resume", "--epochs", "2"])
            .failure(2, &[key, "checkpoint"]);
        if *key != "learning_rate" && *key != "activation" {
            // What was trained with other images or sizes cannot go on as this.
            let insist = [
                "train",
                "--run-dir",
                "r",
                "--resume",
                "--allow-config-change",
            ];
            bench.trainer(&insist).failure(2, &[key]);
        }
        for command in [
            &["evaluate", "--run-dir", "r"][..],
            &["sample", "--run-dir", "r", "--out", "s.png"],
            &["report", "--run-dir", "r"],
        ] {
            let ended = bench.trainer(command).failure(2, &["config.json", key]);
            assert!(!ended.stderr.contains("delete"), "{}", ended.stderr);
        }
        let verified = bench.trainer(&["verify-run", "--run-dir", "r"]);
        assert_eq!(verified.code, Some(2), "{}", verified.stderr);
        assert!(
            verified.stdout.contains("BAD  config.json"),
            "{}",
            verified.stdout
        );
        assert_eq!(checkpoints(), there, "nothing was removed");
        fs::write(bench.path("r/config.json"), config).expect("restored");
    }
    // Undone, the run goes on.
    bench
        .trainer(&["train", "--run-dir", "r", "--resume", "--epochs", "2"])
        .success();
    bench.trainer(&["verify-run", "--run-dir", "r"]).success();
    passed("edited run", count);
}

#[test]
fn an_allowed_change_is_the_runs_from_then_on_and_stays_recorded() {
    let bench = Bench::new();
    train(&bench, "r", &["--epochs", "1"]).success();
    let change = ["--allow-config-change", "--learning-rate", "0.0005"];
    // No step is made, and the change counts all the same.
    let resume = ["train", "--run-dir", "r", "--resume", "--epochs", "1"];
    bench.trainer(&[&resume[..], &change].concat()).success();
    bench.trainer(&resume).success();
    bench
        .trainer(&["train", "--run-dir", "r", "--resume", "--epochs", "2"])
        .success();
    bench.trainer(&["verify-run", "--run-dir", "r"]).success();
    let environment = bench.read_json("r/environment.json");
    assert_eq!(
        environment["resumed"][0]["changed_settings"][0],
        "learning_rate: 0.001 -> 0.0005"
    );
    let first = environment["command"].as_array().expect("a command");
    assert!(first.iter().all(|word| word != "--resume"), "{first:?}");
    // The seed is not among what can change: the held-out images would be others.
    bench
        .trainer(&[&resume[..], &["--allow-config-change", "--seed", "2"]].concat())
        .failure(2, &["seed: 1 -> 2"]);
}

#[cfg(unix)]
#[test]
fn faults_links_in_a_run_folder_lead_nowhere() {
    use std::os::unix::fs::symlink;
    let bench = Bench::new();
    train(&bench, "whole", &["--epochs", "1"]).success();
    let names = [
        "lock",
        "metrics.jsonl",
        "checkpoints",
        // With other settings its manifest would be written anew.
        "checkpoints/epoch-0001-batch-00000",
        "metrics.csv",
        "timing.jsonl",
        "samples",
        "reconstructions",
    ];
    let count = cases(4, 8, 8);
    for name in &names[..count] {
        let flat = name.replace('/', "-");
        let run_dir = format!("linked-{flat}");
        copy_folder(&bench.path("whole"), &bench.path(&run_dir));
        let inside = bench.path(&format!("{run_dir}/{name}"));
        let victim = bench.path(&format!("victim-{flat}"));
        fs::rename(&inside, &victim).expect("moved");
        if victim.is_dir() {
            fs::create_dir(victim.join("photos.old")).expect("created");
        } else {
            fs::write(&victim, "keep me\n").expect("written");
        }
        symlink(&victim, &inside).expect("linked");
        bench
            .trainer(&["train", "--run-dir", &run_dir, "--resume", "--epochs", "2"])
            .failure(2, &[name, "symbolic link"]);
        if victim.is_dir() {
            assert!(victim.join("photos.old").is_dir(), "{name}");
        } else {
            assert_eq!(
                fs::read_to_string(&victim).expect("text"),
                "keep me\n",
                "{name}"
            );
        }
    }
    // A pipe in place of a file is one on which a run would wait for ever.
    for name in ["lock", "metrics.jsonl", "timing.jsonl"] {
        let run_dir = format!("pipe-{name}");
        copy_folder(&bench.path("whole"), &bench.path(&run_dir));
        let inside = bench.path(&format!("{run_dir}/{name}"));
        fs::remove_file(&inside).expect("removed");
        let made = bench.command("mkfifo").arg(&inside).status();
        assert!(made.expect("mkfifo is there").success());
        bench
            .trainer(&["train", "--run-dir", &run_dir, "--resume", "--epochs", "2"])
            .failure(2, &[name, "not a regular file"]);
    }
    // Commands that read do not wait there either, nor read a device without end.
    for name in ["environment.json", "summary.json", "metrics.jsonl"] {
        let run_dir = format!("device-{name}");
        copy_folder(&bench.path("whole"), &bench.path(&run_dir));
        let inside = bench.path(&format!("{run_dir}/{name}"));
        fs::remove_file(&inside).expect("removed");
        symlink("/dev/zero", &inside).expect("linked");
        bench
            .trainer(&["report", "--run-dir", &run_dir])
            .failure(21, &[name, "not a regular file"]);
    }
    // The folder itself may be one, and a sweep's lock may not.
    symlink(bench.path("whole"), bench.path("link")).expect("linked");
    bench
        .trainer(&["train", "--run-dir", "link", "--resume", "--epochs", "2"])
        .success();
    fs::create_dir_all(bench.path("sweep")).expect("created");
    fs::write(bench.path("victim"), "keep me\n").expect("written");
    symlink("../victim", bench.path("sweep/lock")).expect("linked");
    bench
        .trainer(&["bench-depths", "--preset", "demo", "--out", "sweep"])
        .failure(2, &["symbolic link"]);
    assert_eq!(bench.read("victim"), b"keep me\n");
    passed("links", count + 8);
}

#[test]
fn what_users_put_beside_checkpoints_stays() {
    let bench = Bench::new();
    train(&bench, "r", &["--epochs", "1"]).success();
    fs::create_dir(bench.path("r/checkpoints/backup.old")).expect("created");
    fs::write(bench.path("r/checkpoints/x.tmp"), "mine").expect("written");
    bench
        .trainer(&["train", "--run-dir", "r", "--resume", "--epochs", "4"])
        .success();
    assert!(bench.path("r/checkpoints/backup.old").is_dir());
    assert_eq!(bench.read("r/checkpoints/x.tmp"), b"mine");
}
