//! `gpu-check` on a processor: every part, what fails alone, what is not reached, and what is kept.

use end_to_end_tests::{Bench, Ended};
use serde_json::Value;

const FLEX: [&str; 5] = ["gpu-check", "--device", "flex", "--out", "out"];

fn check(bench: &Bench, more: &[&str]) -> Ended {
    bench.trainer(&[&FLEX[..], more].concat())
}

fn results(bench: &Bench) -> Value {
    bench.read_json("out/results.json")
}

fn parts(results: &Value) -> &[Value] {
    results["parts"].as_array().expect("a list of parts")
}

fn part<'a>(results: &'a Value, name: &str) -> &'a Value {
    let found = parts(results).iter().find(|part| part["part"] == name);
    found.unwrap_or_else(|| panic!("no part {name} in {results:#}"))
}

fn rows<'a>(results: &'a Value, name: &str) -> &'a [Value] {
    part(results, name)["rows"]
        .as_array()
        .expect("a list of rows")
}

#[test]
fn all_parts_pass_and_agree_with_the_golden_files() {
    let bench = Bench::new();
    let ended = check(&bench, &[]).success();
    let results = results(&bench);
    let names: Vec<&str> = parts(&results)
        .iter()
        .filter_map(|part| part["part"].as_str())
        .collect();
    // Depth 100 with two batch sizes in bfloat16.
    assert_eq!(names.len(), 2 + 2 + 2 + 2 * (6 + 2) + 1 + 2, "{names:?}");
    for part in parts(&results) {
        assert_eq!(part["outcome"], "passed", "{part:#}");
        assert!(
            part["seconds"]
                .as_f64()
                .is_some_and(|seconds| seconds > 0.0)
        );
    }
    for precision in ["f32", "bf16"] {
        let parity = rows(&results, &format!("parity-{precision}"));
        assert_eq!(parity.len(), 11 + 2, "eleven blocks, two autoencoders");
        for row in parity {
            let (error, allowed) = (&row["worst"]["error"], &row["worst"]["allowed"]);
            let share = error.as_f64().expect("finite") / allowed.as_f64().expect("finite");
            // Exact equality of every tensor would mean that nothing was compared.
            assert!(0.0 < share && share <= 1.0, "{row:#}");
            assert!(row["comparisons"].as_u64() >= Some(10), "{row:#}");
        }
        let trained = rows(&results, &format!("determinism-{precision}"));
        assert_eq!(trained.len(), 3, "again, launched, in another process");
        for trained in trained {
            assert_eq!(trained["equal_losses"], trained["steps"]);
            assert_eq!(trained["equal_weights"], trained["weights"]);
            assert!(trained["weights"].as_u64() > Some(1000), "{trained:#}");
        }
        let product = &rows(&results, &format!("products-{precision}"))[0];
        assert!(product["operations_per_second"].as_f64() > Some(1e6));
    }
    let step = &rows(&results, "step-28-2-f32")[0];
    let (seconds, operations) = (&step["seconds_per_step"], &step["operations"]);
    let rate = operations.as_f64().expect("a number") / seconds.as_f64().expect("a number");
    let found = step["operations_per_second"].as_f64().expect("a number");
    assert!((found / rate - 1.0).abs() < 1e-9);
    assert!(step["peak_bytes"].as_f64() > Some(1e6), "{step:#}");
    let start = rows(&results, "start");
    assert_eq!(start.len(), 2, "without kept kernels and with them");
    assert!(
        start.iter().all(|row| row["seconds"].as_f64() > Some(0.0)),
        "{start:#?}"
    );

    let table = bench.read_text("out/results.md");
    for title in ["## Parity", "## Training steps", "tiny size"] {
        assert!(table.contains(title), "{table}");
    }
    assert!(!table.contains("Not reached"), "{table}");
    assert!(!ended.stdout.contains("not reached"), "{}", ended.stdout);
}

#[test]
fn without_a_budget_everything_is_listed_as_not_reached() {
    let bench = Bench::new();
    let ended = check(&bench, &["--budget", "0.001"]).success();
    let results = results(&bench);
    assert!(
        parts(&results)
            .iter()
            .all(|part| part["outcome"] == "not_reached")
    );
    assert!(
        ended
            .stdout
            .contains("not reached: device, parity-f32, parity-bf16, start, step-28-4-bf16"),
        "{}",
        ended.stdout
    );
    let table = bench.read_text("out/results.md");
    assert!(table.contains("step-28-8-f32."), "{table}");
}

#[test]
fn one_part_alone_keeps_the_results_of_the_others() {
    let bench = Bench::new();
    check(&bench, &["--part", "determinism"]).success();
    let before = results(&bench);
    check(&bench, &["--part", "products-f32"]).success();
    let after = results(&bench);
    // Burn's own layers are made only where somebody asks for them.
    assert!(
        !parts(&after)
            .iter()
            .any(|part| part["part"] == "layers-28-4-f32")
    );
    check(&bench, &["--part", "layers-28-4-f32"]).success();
    let with_layers = results(&bench);
    assert_eq!(rows(&with_layers, "layers-28-4-f32")[0]["is_plain"], true);
    for name in ["determinism-f32", "determinism-bf16"] {
        assert_eq!(part(&before, name)["outcome"], "passed");
        assert_eq!(part(&before, name), part(&after, name));
    }
    assert_eq!(part(&before, "products-f32")["outcome"], "not_reached");
    assert_eq!(part(&after, "products-f32")["outcome"], "passed");
    assert_eq!(part(&after, "products-bf16")["outcome"], "not_reached");
    // What was found stays where the budget is too small to find it again.
    check(&bench, &["--part", "products-f32", "--budget", "0.001"]).success();
    assert_eq!(
        part(&results(&bench), "products-f32"),
        part(&after, "products-f32")
    );
    // Without `--part` everything begins anew.
    check(&bench, &["--budget", "0.001"]).success();
    assert_eq!(
        part(&results(&bench), "products-f32")["outcome"],
        "not_reached"
    );
}

#[test]
fn unknown_parts_and_results_of_another_device_are_refused() {
    let bench = Bench::new();
    check(&bench, &["--part", "speed"]).failure(2, &["no part `speed`", "parity-f32"]);
    check(&bench, &["--budget", "-1"]).failure(2, &["--budget -1"]);
    check(&bench, &["--budget", "0"]).failure(2, &["--budget 0", "above 0"]);
    check(&bench, &["--budget", "0.001"]).success();
    let text = bench.read_text("out/results.json");
    let text = text.replace("\"flex\"", "\"cuda:0\"");
    std::fs::write(bench.path("out/results.json"), text).expect("written");
    check(&bench, &["--part", "device"]).failure(2, &["results of cuda:0"]);
}

#[test]
fn a_device_that_is_not_there_fails_every_part_with_its_reason() {
    let bench = Bench::new();
    let flags = ["gpu-check", "--out", "out", "--part", "parity"];
    bench
        .trainer(&flags)
        .failure(1, &["parity-f32, parity-bf16"]);
    let results = results(&bench);
    assert_eq!(results["device"], "cuda:0");
    let reason = part(&results, "parity-f32")["reason"]
        .as_str()
        .expect("a reason");
    assert!(reason.contains("cuda"), "{reason}");
}

#[cfg(unix)]
mod in_pytorch {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    /// A Python that reads the script and then does this.
    fn python(bench: &Bench, action: &str) {
        let path = bench.path("python");
        let text = format!("#!/bin/sh\ncat > /dev/null\n{action}\n");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .expect("executable");
    }

    #[test]
    fn a_python_that_is_not_there_fails_its_own_parts_only() {
        let bench = Bench::new();
        check(&bench, &["--python", "./no-such-python", "--part", "step"]).success();
        let flags = ["--python", "./no-such-python", "--part", "pytorch"];
        check(&bench, &flags).failure(1, &["13 of the parts failed", "pytorch-28-2-f32"]);
        let results = results(&bench);
        for part in parts(&results) {
            let name = part["part"].as_str().expect("a name");
            let expected = match name.split('-').next() {
                Some("step") => "passed",
                Some("pytorch") => "failed",
                _ => "not_reached",
            };
            assert_eq!(part["outcome"], expected, "{part:#}");
        }
        let rows = rows(&results, "pytorch-28-2-f32");
        assert_eq!(rows.len(), 4, "every form tells why");
        assert!(
            rows.iter()
                .all(|row| row["reason"].to_string().contains("no-such-python"))
        );
    }

    #[test]
    fn pytorchs_time_stands_beside_ours() {
        let bench = Bench::new();
        python(
            &bench,
            r#"case "$*" in *--compile*) seconds=0.25 ;; *) seconds=0.5 ;; esac
echo "{\"version\": \"9.9\", \"seconds_per_step\": $seconds, \"peak_bytes\": 1048576}""#,
        );
        check(
            &bench,
            &["--python", "./python", "--part", "step-28-2-bf16"],
        )
        .success();
        check(
            &bench,
            &["--python", "./python", "--part", "pytorch-28-2-bf16"],
        )
        .success();
        let table = bench.read_text("out/results.md");
        assert!(table.contains("| 250.00 (compiled) | 1 |"), "{table}");
        // It is not forgotten where PyTorch is not asked for again.
        check(&bench, &["--part", "device"]).success();
        assert_eq!(rows(&results(&bench), "pytorch-28-2-bf16").len(), 4);
    }

    #[test]
    fn a_part_whose_process_is_killed_leaves_the_others() {
        let bench = Bench::new();
        python(
            &bench,
            r#"case "$*" in *--compile*) kill -KILL $PPID; sleep 60 ;; esac
echo '{"version": "9.9", "seconds_per_step": 0.5, "peak_bytes": 1048576}'"#,
        );
        let python = ["--python", "./python", "--part"];
        let killed = "pytorch-28-2-f32";
        check(&bench, &[&python[..], &[killed]].concat()).failure(1, &[killed]);
        check(&bench, &[&python[..], &["device"]].concat()).failure(1, &[killed]);
        let results = results(&bench);
        let reason = part(&results, killed)["reason"].as_str().expect("a reason");
        assert!(reason.contains("signal"), "{reason}");
        // What it had found before is kept.
        assert_eq!(rows(&results, killed)[0]["seconds_per_step"], 0.5);
        assert_eq!(part(&results, "device")["outcome"], "passed");
    }

    /// Parts that compile for ever take half as long again as their limit, and all of them no longer than the budget.
    #[test]
    fn a_budget_is_kept_by_parts_that_never_end() {
        let bench = Bench::new();
        python(
            &bench,
            r#"case "$*" in *--compile*) sleep 300 ;; esac
echo '{"version": "9.9", "seconds_per_step": 0.5, "peak_bytes": 1048576}'"#,
        );
        let began = Instant::now();
        let budget = Duration::from_secs(24);
        let flags = [
            "--python", "./python", "--budget", "24", "--part", "pytorch",
        ];
        check(&bench, &flags).failure(1, &["of the parts failed"]);
        let took = began.elapsed();
        // Two parts of nine seconds, and a third of what is left.
        assert!(took < budget + Duration::from_secs(6), "{took:?}");
        let results = results(&bench);
        let with = |outcome: &str| {
            let parts = parts(&results).iter();
            let parts = parts.filter(|part| part["part"].to_string().contains("pytorch"));
            parts.filter(|part| part["outcome"] == outcome).count()
        };
        assert_eq!((with("failed"), with("not_reached")), (3, 10));
        let first = part(&results, "pytorch-28-4-bf16")["reason"].to_string();
        let expected =
            "not done within its 9 s, compiling included; it stood at: PyTorch, compiled";
        assert!(first.contains(expected), "{first}");
    }

    #[test]
    fn a_part_that_hangs_is_ended_at_its_limit() {
        let bench = Bench::new();
        python(&bench, "echo $$ > pid; sleep 300");
        let began = Instant::now();
        let flags = [
            "--python",
            "./python",
            "--budget",
            "20",
            "--part",
            "pytorch-28-2-f32",
        ];
        check(&bench, &flags).failure(1, &["pytorch-28-2-f32"]);
        assert!(began.elapsed() < Duration::from_secs(60));
        let results = results(&bench);
        let part = part(&results, "pytorch-28-2-f32");
        assert!(
            part["reason"]
                .to_string()
                .contains("not done within its 5 s; it stood at: PyTorch, channels-last"),
            "{part:#}"
        );
        // The Python that hung ended with it.
        let pid = bench.read_text("pid");
        let status = format!("/proc/{}/status", pid.trim());
        let is_alive = || {
            let status = std::fs::read_to_string(&status);
            // Ended, though nobody may have asked for its exit code.
            status.is_ok_and(|status| !status.contains("State:\tZ"))
        };
        while is_alive() {
            assert!(began.elapsed() < Duration::from_secs(60), "{pid} goes on");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
