//! `verify-run` finds what was changed in a run's folder.

use std::fs;

use end_to_end_tests::Bench;

#[test]
fn every_kind_of_damage_to_a_run_is_named_with_the_code_of_its_kind() {
    let bench = Bench::new();
    let run = [
        "train",
        "--preset",
        "demo",
        "--width",
        "0.02",
        "--latent-dim",
        "4",
        "--limit-train",
        "60",
        "--limit-test",
        "10",
        "--epochs",
        "3",
        "--run-dir",
        "r",
    ];
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
    type Change<'a> = &'a dyn Fn(&mut Vec<u8>);
    let cases: [(&str, Change<'_>, i32, &str); 5] = [
        (&checkpoint, &flip, 20, newest),
        ("metrics.jsonl", &cut_a_row, 21, "metrics.jsonl"),
        ("metrics.csv", &cut_a_row, 21, "metrics.csv"),
        ("model.safetensors", &not_a_number, 20, "not finite"),
        ("decoder.safetensors", &empty, 20, "decoder.safetensors"),
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
    bench
        .trainer(&["verify-run", "--run-dir", "nowhere"])
        .failure(2, &["nowhere"]);
}
