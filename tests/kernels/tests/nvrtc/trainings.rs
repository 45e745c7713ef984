//! Trainings that nothing disturbs, from the first step to the last picture: that all their kernels compile, what multiplies, and what the host waits for.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::runs::{on_stand_in, program, train};
use super::{folder, wheels};

/// Steps, validation, pictures, scores and what is drawn of latents, with all that adds kernels to a step.
#[test]
fn a_whole_training_compiles_for_cards_of_three_generations() {
    let began = Instant::now();
    for (capability, precision) in [("6.1", "f32"), ("8.0", "bf16"), ("9.0", "f32")] {
        let folder = folder(&format!("training-{capability}"));
        // No kernel of an earlier process.
        let cache = folder.join("cache").display().to_string();
        let arguments = format!(
            "--device cuda:0 --precision {precision} --limit-train 24 --dropout 0.1 --ema 0.9 --free-bits 0.02 --augment flip-crop"
        );
        let variables = [
            ("STAND_IN_CAPABILITY", capability),
            ("XDG_CACHE_HOME", cache.as_str()),
        ];
        let output = train(&folder, &arguments, &variables);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{capability}: {text}");
        let report = std::fs::read_to_string(folder.join("report")).expect("a report");
        let kernels = report.matches("\nmodule ").count();
        println!(
            "capability {capability}, {precision}: {kernels} kernels, {:.1} s since the first",
            began.elapsed().as_secs_f64()
        );
        // Those of a step are forty; the others draw and measure.
        assert!(kernels > 80, "{capability}: {kernels} kernels");
        assert!(folder.join("run/summary.json").exists(), "{capability}");
        std::fs::remove_dir_all(&folder).expect("the folder goes");
    }
}

/// `evaluate` scores as training does: by the step's own kernels, captured and replayed, and not by Burn's operations.
#[test]
fn a_finished_model_is_scored_by_the_steps_own_kernels() {
    let folder = folder("evaluate");
    let output = train(&folder, "--device cuda:0 --limit-train 8", &[]);
    assert!(output.status.success(), "{output:?}");
    std::fs::remove_file(folder.join("report")).expect("removed");
    let evaluate = "evaluate --run-dir run --device cuda:0 --split test --batch-size 2";
    let output = program(&folder, evaluate, &[]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let report = std::fs::read_to_string(folder.join("report")).expect("the stand-in's report");
    let kernels = report.matches("module ").count();
    println!("evaluate: {kernels} kernels compiled");
    // Those of the pass, of the batch's images, and of the penalties, which are read once.
    assert!(kernels <= 40, "{kernels} kernels");
    // Four batches: one launched, one launched and captured, two replayed.
    let scored = report.matches("\nlaunch negative_log_probability").count();
    assert_eq!((scored, report.matches("\ngraph\n").count()), (3, 1 + 2));

    // The bound besides: an encoder and three draws a batch, of which the first of all are launched, and the second ones captured.
    std::fs::remove_file(folder.join("report")).expect("removed");
    let output = program(&folder, &format!("{evaluate} --importance-samples 3"), &[]);
    assert!(output.status.success(), "{output:?}");
    let report = std::fs::read_to_string(folder.join("report")).expect("the stand-in's report");
    let kernels_with_bound = report.matches("module ").count();
    assert_eq!(kernels_with_bound, kernels, "no kernel more for the bound");
    let scored = report.matches("\nlaunch negative_log_probability").count();
    // Captures are rehearsed once each time that a pass is made.
    let graphs = report.matches("\ngraph\n").count();
    assert_eq!((scored, graphs), (3 + 3, (1 + 2) + (1 + 2 + 10)));

    let fails = [("STAND_IN_PRODUCT_FAILS", "60")];
    let output = program(&folder, evaluate, &fails);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(32), "{text}");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// What a run says of its matrix products when it begins, and what it records.
fn products_of(folder: &Path, command: &mut Command) -> [String; 2] {
    let log = std::fs::File::create(folder.join("log")).expect("a log");
    let mut child = command.stderr(log).stdout(Stdio::null()).spawn();
    let child = child.as_mut().expect("started");
    let began = Instant::now();
    let path = folder.join("run/environment.json");
    // It is known from then on; products that take minutes to compile need not be waited for.
    while !path.exists() && child.try_wait().expect("a child").is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "no record");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("ended");
    child.wait().expect("ended");
    let log = std::fs::read_to_string(folder.join("log")).expect("a log");
    let said = log
        .lines()
        .find_map(|line| line.strip_prefix("matrix products on cuda:0: "))
        .unwrap_or_else(|| panic!("{log}"));
    let record = std::fs::read(&path).unwrap_or_else(|error| panic!("{error}: {log}"));
    let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
    let recorded = record["matrix_products"].as_str().expect("a name");
    [said.to_owned(), recorded.to_owned()]
}

/// With cuBLASLt, without it, and with either of the others by choice.
#[test]
fn a_run_says_and_records_what_multiplies() {
    for (name, has_library, choice, expected) in [
        ("library", true, "", "cuBLASLt"),
        (
            "no-library",
            false,
            "",
            "the program's own kernel, because cuBLASLt cannot be opened: the loader finds none of libcublasLt.so, ",
        ),
        ("plain", true, "plain", "the program's own kernel"),
        ("cubecl", true, "cubecl", "CubeCL"),
    ] {
        let folder = folder(&format!("products-{name}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_program"));
        let arguments = "train --depth 28 --width 0.02 --latent-dim 4 --intermediate-dim 16 --batch-size 8 --limit-train 8 --limit-test 8 \
                         --epochs 1 --data sample --device cuda:0 --run-dir run";
        command.args(arguments.split_whitespace());
        on_stand_in(&mut command, &folder);
        command.env("RESNET_VAE_PRODUCTS", choice);
        if !has_library {
            let driver = folder.join("driver");
            std::fs::create_dir(&driver).expect("a folder");
            for library in ["libcuda.so.1", "libcuda.so"] {
                symlink(folder.join("libcuda.so.1"), driver.join(library)).expect("a link");
            }
            let libraries = std::env::join_paths([driver, wheels().join("cuda_nvrtc/lib")]);
            command.env("LD_LIBRARY_PATH", libraries.expect("no colon in a path"));
        }
        let [said, recorded] = products_of(&folder, &mut command);
        assert_eq!(said, recorded, "{name}");
        let is_expected = match has_library {
            true => said == expected,
            false => said.starts_with(expected),
        };
        assert!(is_expected, "{name}: {said}");
        std::fs::remove_dir_all(&folder).expect("the folder goes");
    }
}

/// What the host reads and waits for between the updates of two steps, and what it writes: `read`, `record EVENT`, `wait EVENT` and `write`, in order.
fn between_updates(report: &str, is_update: impl Fn(&str) -> bool) -> Vec<Vec<&str>> {
    let mut all = vec![Vec::new()];
    for line in report.lines() {
        if is_update(line) {
            all.push(Vec::new());
            continue;
        }
        let word = line.split(' ').next().unwrap_or_default();
        let kept = match word {
            "record" | "wait" => line,
            "read" | "write" => word,
            _ => continue,
        };
        all.last_mut().expect("never empty").push(kept);
    }
    // What lies before the first one and behind the last one is another matter.
    all.pop();
    all.into_iter().skip(1).collect()
}

/// Reading a step is asked for behind its update, and waited for behind the update of the next one: between a step's inputs and its update the host neither
/// reads nor waits, whether steps are launched or replayed, and whatever decides about a step.
#[test]
fn the_host_waits_for_a_step_when_the_next_one_is_under_way() {
    let folder = folder("waiting");
    let arguments = "--device cuda:0 --limit-train 80 --dropout 0.1";
    let decided = " --skip-gradient-norm 10 --beta 0.5 --kl-warmup linear:40 --free-bits 0.02";
    for (graphs, further) in [("off", ""), ("", ""), ("", decided)] {
        let flags = format!(
            "{arguments}{further} --run-dir run-{graphs}{}",
            further.len()
        );
        let output = train(&folder, &flags, &[("RESNET_VAE_GRAPHS", graphs)]);
        assert!(output.status.success(), "{output:?}");
        let report = std::fs::read_to_string(folder.join("report")).expect("a report");
        std::fs::remove_file(folder.join("report")).expect("removed");
        let steps = if graphs == "off" {
            between_updates(&report, |line| line.starts_with("launch adam"))
        } else {
            let last_launched = report.rfind("\nlaunch adam").expect("a step");
            // Two of ten steps are launched; what follows the others has graphs of its own.
            let replayed = &report[last_launched..];
            let last = replayed.match_indices("\ngraph\n").nth(7);
            let (end, _) = last.expect("eight replayed steps");
            between_updates(&replayed[..end + 7], |line| line == "graph")
        };
        // The first step is waited for, so that its time is known.
        let steps = if graphs == "off" { &steps[1..] } else { &steps };
        assert!(steps.len() >= 7, "{} steps", steps.len());
        let mut before: Option<&str> = None;
        for step in steps {
            let [read, record, wait, inputs @ ..] = &step[..] else {
                panic!("{graphs}: {step:?}");
            };
            let event = record.strip_prefix("record ").unwrap_or_default();
            let waited_for = wait.strip_prefix("wait ").unwrap_or_default();
            assert!(*read == "read" && !event.is_empty(), "{graphs}: {step:?}");
            assert!(
                before.is_none_or(|before| before == waited_for) && waited_for != event,
                "{graphs}: {step:?} behind {before:?}"
            );
            let is_written = inputs.iter().all(|line| *line == "write");
            assert!(is_written && !inputs.is_empty(), "{graphs}: {step:?}");
            before = Some(event);
        }
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// How many images a device takes at a time is asked at every pass: nothing is made on the device for it.
#[test]
fn a_pass_makes_no_tensor_to_ask_what_fits() {
    let folder = folder("asking");
    let output = train(&folder, "--device cuda:0 --limit-train 8", &[]);
    assert!(output.status.success(), "{output:?}");
    let of = |count: usize| {
        std::fs::remove_file(folder.join("report")).expect("removed");
        let sample =
            format!("sample --run-dir run --count {count} --out {count}.npy --device cuda:0");
        let output = program(&folder, &sample, &[]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        let report = std::fs::read_to_string(folder.join("report")).expect("a report");
        ["launch full_kernel", "launch given_statistics"]
            .map(|kernel| report.matches(kernel).count())
    };
    let ([constants, norms], [of_more, norms_of_more]) = (of(4), of(250));
    // Passes of a hundred images, and the model's own constants once.
    assert_eq!(norms_of_more, 3 * norms);
    assert!(
        constants > 0 && of_more == constants,
        "{of_more} and {constants} constants"
    );
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}
