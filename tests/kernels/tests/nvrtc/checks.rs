//! `gpu-check` on the stand-ins: what it says of a card that hangs, and of products that the library refuses; and who else says that.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::folder;
use super::runs::{program, train};

fn results(folder: &Path) -> Value {
    let text = std::fs::read(folder.join("results/results.json")).expect("results");
    serde_json::from_slice(&text).expect("JSON")
}

fn part<'a>(results: &'a Value, name: &str) -> &'a Value {
    let parts = results["parts"].as_array().expect("parts");
    let found = parts.iter().find(|part| part["part"] == name);
    found.unwrap_or_else(|| panic!("no part {name} in {results:#}"))
}

/// Whatever process of the part it is that hangs.
#[test]
fn a_card_that_hangs_is_left_with_the_kernel_that_it_was_given() {
    let folder = folder("hanging");
    // No kernel of an earlier process.
    let cache = folder.join("cache").display().to_string();
    for (name, stage) in [
        ("step-28-25-bf16", "step 1 of 55"),
        ("start", "a process with no kept kernels"),
    ] {
        let arguments =
            format!("gpu-check --device cuda:0 --part {name} --budget 60 --out results");
        let variables = [
            ("STAND_IN_MODULE_HANGS", "12"),
            ("XDG_CACHE_HOME", cache.as_str()),
        ];
        let output = program(&folder, &arguments, &variables);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let results = results(&folder);
        let reason = part(&results, name)["reason"].as_str().expect("a reason");
        println!("{name}: {reason}");
        let expected = format!(
            "not done within its 22 s, compiling included; it stood at: {stage}, the last kernel it began to compile: "
        );
        let kernel = reason.strip_prefix(&expected);
        let kernel = kernel.unwrap_or_else(|| panic!("{reason}"));
        assert!(kernel.len() > 3, "{reason}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// Not even its name is known then; the budget is kept, and nothing is left running.
#[test]
fn a_driver_that_never_answers_costs_no_more_than_the_budget() {
    let folder = folder("silent");
    let arguments = "gpu-check --device cuda:0 --budget 16 --out results";
    let began = Instant::now();
    let output = program(&folder, arguments, &[("STAND_IN_HANGS", "1")]);
    let took = began.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(took < Duration::from_secs(16 + 6), "{took:?}: {text}");
    let results = results(&folder);
    let reason = part(&results, "device")["reason"]
        .as_str()
        .expect("a reason");
    assert!(
        reason.ends_with("it stood at: asking for the device"),
        "{reason}"
    );
    assert!(text.contains("not reached: parity-bf16, start"), "{text}");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// A run that says cuBLASLt multiplies says where it does not.
#[test]
fn products_that_the_library_refuses_are_told_wherever_it_is_named() {
    let folder = folder("refused");
    // Of the outer layers alone, whose maps have twice four channels at that width; and of none.
    let refuses = [("STAND_IN_NO_ALGORITHM", "0")];
    let told = "by [";
    let counted = |text: &str| {
        text.matches("of product, which the program's own kernel makes")
            .count()
    };
    for (variables, times) in [(&[][..], 0), (&refuses[..], 1)] {
        let run = format!("--device cuda:0 --limit-train 24 --epochs 2 --run-dir run-{times}");
        let output = train(&folder, &run, variables);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert_eq!(counted(&text), times, "{text}");
        assert_eq!(text.contains(told), times == 1, "{text}");

        let evaluate =
            format!("evaluate --run-dir run-{times} --split test --batch-size 2 --device cuda:0");
        let output = program(&folder, &evaluate, variables);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(counted(&text), times, "{text}");
        assert_eq!(
            text.matches("matrix products on cuda:0: cuBLASLt").count(),
            1,
            "{text}"
        );

        let bench = "bench-step --depth 28 --width 0.02 --latent-dim 4 --batch-size 8 --device cuda:0 --steps 1 --warmup 2";
        let output = program(&folder, bench, variables);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(counted(&text), times, "{text}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            text.matches("matrix products on cuda:0: cuBLASLt").count(),
            1,
            "{text}"
        );

        for name in ["step-28-25-bf16", "products-bf16"] {
            let check = format!("gpu-check --device cuda:0 --part {name} --out results");
            let output = program(&folder, &check, variables);
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(times as i32), "{text}");
            let results = results(&folder);
            let reason = part(&results, name)["reason"].as_str().unwrap_or_default();
            assert_eq!(counted(reason), times, "{reason}");
        }
        let text = std::fs::read_to_string(folder.join("results/results.json")).expect("results");
        assert_eq!(
            text.contains("it has no algorithm") || text.contains("status 15"),
            times == 1,
            "{text}"
        );
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// Replayed, launched and in another process: whether a card computes the same is asked of all three.
#[test]
fn trainings_that_are_to_be_equal_are_made_in_three_ways() {
    let folder = folder("determinism");
    let check = "gpu-check --device cuda:0 --part determinism-bf16 --out results";
    let output = program(&folder, check, &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    let results = results(&folder);
    let rows = part(&results, "determinism-bf16")["rows"].as_array();
    let compared: Vec<&str> = rows
        .expect("rows")
        .iter()
        .filter_map(|row| row["compared"].as_str())
        .collect();
    assert_eq!(
        compared,
        ["again", "launched", "other_process"],
        "{results:#}"
    );
    let report = std::fs::read_to_string(folder.join("report")).expect("the stand-in's report");
    // Of five steps one is launched and one launched and captured, for which there is a rehearsal; three are replayed. Where all are launched there is no graph.
    let steps = report.matches("\nlaunch adam").count();
    let graphs = report.matches("\ngraph\n").count();
    assert_eq!((steps, graphs), (3 * 3 + 5, 3 * 4), "{text}");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// A check of a card without bfloat16 has no parts in it, which would fail one by one.
#[test]
fn a_check_of_a_card_without_bfloat16_says_so() {
    let folder = folder("check-no-bf16");
    let arguments = "gpu-check --device cuda:0 --part device --out results";
    let output = program(&folder, arguments, &[("STAND_IN_CAPABILITY", "6.1")]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains("no part is made in bfloat16: the card has compute capability 6.1"),
        "{text}"
    );
    let results = std::fs::read_to_string(folder.join("results/results.json")).expect("results");
    assert!(!results.contains("bf16"), "{results}");
    assert!(
        results.contains("\"matrix_products\": \"cuBLASLt\""),
        "{results}"
    );
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// The first process of the part finds no kernel, wherever the user's own are kept, and leaves its own in the check's folder.
#[test]
fn the_cold_start_of_a_check_is_cold() {
    let folder = folder("start");
    let users = folder.join("users-cache").display().to_string();
    let output = program(
        &folder,
        "gpu-check --device cuda:0 --part start --out results",
        &[("XDG_CACHE_HOME", &users)],
    );
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert_eq!(output.status.code(), Some(0), "{text}");
    let kept = folder.join("results/kernel-cache/cubecl");
    let kept = std::fs::read_dir(&kept).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(kept.count() > 0, "no kernels in the check's folder");
    let report = std::fs::read_to_string(folder.join("report")).expect("the stand-in's report");
    // A kernel that has to be compiled takes NVRTC its tenths of a second; one that is kept is read.
    let seconds = report.lines().filter_map(|line| {
        let line = line.strip_prefix("module ")?;
        line.split(' ').next()?.parse::<f64>().ok()
    });
    let seconds: Vec<f64> = seconds.collect();
    let (cold, kept) = seconds.split_at(seconds.len() / 2);
    let [cold, kept] = [cold, kept].map(|half| half.iter().sum::<f64>());
    println!(
        "{} kernels: {cold:.1} s of compiling, then {kept:.1} s",
        seconds.len() / 2
    );
    assert!(kept < cold / 2.0, "{cold} s, then {kept} s");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}
