//! `verify-run` finds what was changed in a run's folder.

use std::fs;

use end_to_end_tests::{Bench, tiny};

#[test]
fn every_kind_of_damage_to_a_run_is_named_with_the_code_of_its_kind() {
    let bench = Bench::new();
    let run = tiny("--limit-train 60 --limit-test 10 --epochs 3 --run-dir r");
    bench.trainer(&run).success();
    let verify = ["verify-run", "--run-dir", "r", "--json"];
    let intact = bench.trainer(&verify).success().json();
    let newest = intact["newest_intact_checkpoint"].as_str().expect("one");
    assert_eq!(newest, "epoch-0003-batch-00000");

    let checkpoint = format!("checkpoints/{newest}/optimizer.safetensors");
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    let cut_a_row = |bytes: &mut Vec<u8>| {
        let text = String::from_utf8(bytes.clone()).expect("text");
        let end = text.trim_end().rfind('\n').expect("two rows") + 1;
        bytes.truncate(end);
    };
    let not_a_number = |bytes: &mut Vec<u8>| {
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    };
    let empty = |bytes: &mut Vec<u8>| bytes.clear();
    let change_a_digit = |bytes: &mut Vec<u8>| {
        let last = bytes.iter().rposition(u8::is_ascii_digit).expect("a digit");
        let digit = bytes.iter().position(u8::is_ascii_digit).unwrap_or(last);
        bytes[digit] = if bytes[digit] == b'1' { b'2' } else { b'1' };
    };
    let change_the_last_row = |bytes: &mut Vec<u8>| {
        let end = bytes
            .iter()
            .rposition(|byte| *byte == b'.')
            .expect("a fraction");
        bytes[end + 1] = if bytes[end + 1] == b'1' { b'2' } else { b'1' };
    };
    let junk = |bytes: &mut Vec<u8>| *bytes = b"junk".to_vec();
    type Change<'a> = &'a dyn Fn(&mut Vec<u8>);
    let cases: [(&str, Change<'_>, i32, &str); 14] = [
        (&checkpoint, &flip, 20, newest),
        ("metrics.jsonl", &cut_a_row, 21, "metrics.jsonl"),
        ("metrics.csv", &cut_a_row, 21, "metrics.csv"),
        ("metrics.csv", &change_the_last_row, 21, "metrics.csv"),
        ("metrics.jsonl", &change_the_last_row, 21, "metrics.jsonl"),
        ("model.safetensors", &not_a_number, 20, "model.safetensors"),
        ("model.safetensors", &flip, 20, "model.safetensors"),
        ("encoder.safetensors", &flip, 20, "encoder.safetensors"),
        ("decoder.safetensors", &empty, 20, "decoder.safetensors"),
        ("reference.safetensors", &flip, 20, "reference.safetensors"),
        ("summary.json", &change_a_digit, 21, "summary.json"),
        ("environment.json", &junk, 21, "environment.json"),
        (
            "samples/epoch-0002.png",
            &flip,
            21,
            "samples/epoch-0002.png",
        ),
        ("loss-curves.svg", &junk, 21, "loss-curves.svg"),
    ];
    for (name, change, code, named) in cases {
        let path = bench.path(&format!("r/{name}"));
        let intact = fs::read(&path).expect("readable");
        let mut damaged = intact.clone();
        change(&mut damaged);
        fs::write(&path, damaged).expect("written");
        let found = bench.trainer(&["verify-run", "--run-dir", "r"]);
        assert_eq!(found.code, Some(code), "{name}: {}", found.stderr);
        let bad: Vec<&str> = found
            .stdout
            .lines()
            .filter(|line| line.starts_with("BAD"))
            .collect();
        assert!(
            bad.iter().any(|line| line.contains(named)),
            "{name}: {bad:?}"
        );
        assert!(
            found.stderr.contains("newest intact checkpoint"),
            "{}",
            found.stderr
        );
        fs::write(&path, intact).expect("written");
    }
    bench.trainer(&verify).success();

    for name in [
        "reconstructions/epoch-0001.png",
        "encoder.safetensors",
        "summary.json",
        "files.json",
    ] {
        let path = bench.path(&format!("r/{name}"));
        let intact = fs::read(&path).expect("readable");
        fs::remove_file(&path).expect("removed");
        let found = bench.trainer(&["verify-run", "--run-dir", "r"]);
        assert!(
            matches!(found.code, Some(20 | 21)),
            "{name}: {}",
            found.stderr
        );
        assert!(
            found.stdout.contains(&format!("BAD  {name}")),
            "{}",
            found.stdout
        );
        fs::write(&path, intact).expect("written");
    }

    // Whoever loads the weights notices, too: an infinite score was no error once.
    let path = bench.path("r/model.safetensors");
    let intact = fs::read(&path).expect("readable");
    for is_listed in [true, false] {
        let list = bench.read("r/files.json");
        if !is_listed {
            // As in a run of an older program.
            fs::remove_file(bench.path("r/files.json")).expect("removed");
        }
        let mut damaged = intact.clone();
        not_a_number(&mut damaged);
        fs::write(&path, damaged).expect("written");
        for command in ["evaluate", "sample"] {
            let out: &[&str] = if command == "sample" {
                &["--out", "s.png"]
            } else {
                &[]
            };
            let flags = [&[command, "--run-dir", "r"], out].concat();
            bench.trainer(&flags).failure(20, &["model.safetensors"]);
        }
        fs::write(bench.path("r/files.json"), list).expect("written");
    }
    fs::write(&path, intact).expect("written");
    // Without a list, two files that differ from each other are noticed all the same.
    fs::remove_file(bench.path("r/files.json")).expect("removed");
    let csv = bench.read("r/metrics.csv");
    let mut edited = csv.clone();
    change_the_last_row(&mut edited);
    fs::write(bench.path("r/metrics.csv"), edited).expect("written");
    let found = bench.trainer(&["verify-run", "--run-dir", "r"]);
    assert!(
        found.stdout.contains("BAD  metrics.csv"),
        "{}",
        found.stdout
    );
    fs::write(bench.path("r/metrics.csv"), csv).expect("written");
    bench.trainer(&[&run[..], &["--resume"]].concat()).success();
    bench.trainer(&verify).success();
    bench
        .trainer(&["verify-run", "--run-dir", "nowhere"])
        .failure(2, &["nowhere"]);
}

/// Two heads of 65,536 x 8 weights, so that a third number a parameter is more than the room that a file's header is given.
#[test]
fn averaged_weights_are_saved_and_checked_against_the_best_checkpoint() {
    let bench = Bench::new();
    let train = |run_dir: &str, seed: &str| {
        let run = "--latent-dim 8 --intermediate-dim 4096 --limit-train 50 --limit-test 10 --epochs 2 --ema 0.9";
        let run = [&tiny(run)[..], &["--seed", seed, "--run-dir", run_dir]].concat();
        bench.trainer(&run).success();
        bench
            .trainer(&["verify-run", "--run-dir", run_dir])
            .success();
    };
    train("r", "1");
    train("other", "2");
    // Another run's weights, with their own hashes in the list: only the checkpoint knows better.
    let mut list: serde_json::Value = bench.read_json("r/files.json");
    let other = bench.read_json("other/files.json");
    let is_model = |entry: &serde_json::Value| entry["name"] == "model.safetensors";
    let of_other = other["files"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|entry| is_model(entry));
    let entries = list["files"].as_array_mut().expect("a list");
    let of_own = entries
        .iter_mut()
        .find(|entry| is_model(entry))
        .expect("listed");
    *of_own = of_other.expect("listed").clone();
    fs::write(bench.path("r/files.json"), list.to_string()).expect("written");
    fs::copy(
        bench.path("other/model.safetensors"),
        bench.path("r/model.safetensors"),
    )
    .expect("copied");
    let found = bench.trainer(&["verify-run", "--run-dir", "r"]);
    assert_eq!(found.code, Some(20), "{}", found.stdout);
    assert!(
        found.stdout.contains("BAD  model.safetensors: ")
            && found.stdout.contains("best checkpoint"),
        "{}",
        found.stdout
    );
}
