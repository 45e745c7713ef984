//! Runs of the trainer's program on the stand-ins: what it does with cards that fail or lack something, and with two.

use std::path::Path;
use std::process::{Command, Output};

use super::{compile, folder, wheels};

/// A run of steps of eight images, in bfloat16 where nothing else is said.
pub(super) fn train(folder: &Path, arguments: &str, variables: &[(&str, &str)]) -> Output {
    let mut usual = "train --depth 28 --width 0.02 --latent-dim 4 --intermediate-dim 16 --batch-size 8 --limit-test 8 --data sample"
        .to_owned();
    for (flag, value) in [
        ("--epochs", "1"),
        ("--run-dir", "run"),
        ("--precision", "bf16"),
    ] {
        if !arguments.contains(flag) {
            usual += &format!(" {flag} {value}");
        }
    }
    program(folder, &format!("{usual} {arguments}"), variables)
}

/// The trainer's program on the stand-in.
pub(super) fn program(folder: &Path, arguments: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_program"));
    command.args(arguments.split_whitespace());
    on_stand_in(&mut command, folder);
    let command = command.envs(variables.iter().copied());
    command.output().expect("started")
}

/// Gives what a command starts the stand-ins for NVIDIA's driver and cuBLASLt.
pub(super) fn on_stand_in(command: &mut Command, folder: &Path) {
    compile("cublaslt.c", &folder.join("libcublasLt.so"));
    let libraries = std::env::join_paths([folder.to_owned(), wheels().join("cuda_nvrtc/lib")])
        .expect("no colon in a path");
    command
        .env_remove("RESNET_VAE_PRODUCTS")
        .env("LD_LIBRARY_PATH", libraries)
        .env("CUDA_PATH", folder)
        .env("STAND_IN_CAPABILITY", "9.0")
        .env("STAND_IN_REPORT", folder.join("report"))
        .env("STAND_IN_COUNTS", "1")
        // The program has 4 e computed before it trusts a card.
        .env("STAND_IN_FIRST_READ", "10.873127")
        .current_dir(folder);
}

/// Also where nothing is trained.
#[test]
fn a_card_that_fails_has_an_exit_code_of_its_own() {
    let folder = folder("failing");
    let arguments = "bench-step --depth 28 --width 0.02 --latent-dim 4 --batch-size 8 --device cuda:0 --steps 1 --warmup 1";
    for (variables, expected) in [(&[][..], 0), (&[("STAND_IN_PRODUCT_FAILS", "60")], 32)] {
        let output = program(&folder, arguments, variables);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(expected), "{text}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// The card of the post's own time: training, scores and pictures of its deepest model have to fit beside each other, to the end of the run.
#[test]
fn the_deepest_model_of_the_post_fits_a_card_of_eight_gigabytes() {
    let folder = folder("small-card");
    let arguments = "train --depth 100 --batch-size 25 --precision f32 --device cuda:0 --data sample --limit-train 75 --limit-test 100 --epochs 1 \
                     --run-dir run";
    let variables = [
        ("STAND_IN_CAPABILITY", "6.1"),
        ("STAND_IN_MEMORY", "8300000000"),
    ];
    let output = program(&folder, arguments, &variables);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let report = std::fs::read_to_string(folder.join("report")).expect("the stand-in's report");
    let (mut held, mut most) = (0i64, 0);
    for line in report.lines() {
        let (word, number) = line.split_once(' ').unwrap_or_default();
        let bytes = || number.parse::<i64>().expect("bytes");
        match word {
            "allocate" => held += bytes(),
            "free" => held -= bytes(),
            _ => {}
        }
        most = most.max(held);
    }
    println!(
        "depth 100, float32, batch 25: {:.2} GB at most",
        most as f64 / 1e9
    );
    assert!(!report.contains("refused"), "memory was short");
    // The test images lie elsewhere than those of validation: of each two batches before a graph, one of them captured, and graphs from then on.
    let last_step = report.rfind("launch adam").expect("a step");
    let graphs = report[last_step..].matches("\ngraph\n").count();
    assert!(graphs >= 1 + 2 + 2, "{graphs} graphs after the steps");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// A first step waits for its own kernels: those of the pictures, which are Burn's operations, are compiled behind it.
#[test]
fn few_kernels_are_compiled_before_the_first_step_has_ended() {
    let folder = folder("cold-start");
    let arguments = "train --depth 28 --batch-size 25 --precision bf16 --device cuda:0 --data sample --limit-train 50 --limit-test 8 --epochs 1 \
                     --run-dir run";
    let output = program(&folder, arguments, &[]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let report = std::fs::read_to_string(folder.join("report")).expect("the stand-in's report");
    let of = |lines: &str| lines.matches("\nmodule ").count();
    let end = report.find("launch adam").expect("a step");
    let (first, all) = (of(&report[..end]), of(&report));
    println!(
        "train: {first} kernels compiled from the start to the end of the first step, {all} in the whole run"
    );
    // Those of a step, and a handful that open the device.
    assert!(first <= 48, "{first} kernels");
    for pictures in ["samples", "reconstructions"] {
        let path = folder.join("run").join(pictures).join("epoch-0000.png");
        assert!(path.exists(), "{}", path.display());
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// What ends a run is told, whatever it is that first meets it: a product of the library, or the reading of a step.
#[test]
fn a_step_without_memory_says_so() {
    let folder = folder("no-memory");
    let arguments = "train --depth 28 --batch-size 128 --precision f32 --device cuda:0 --data sample --limit-train 256 --limit-test 8 --epochs 1 \
                     --run-dir";
    for products in ["", "plain"] {
        let variables = [
            ("STAND_IN_MEMORY", "2000000000"),
            ("RESNET_VAE_PRODUCTS", products),
        ];
        let output = program(&folder, &format!("{arguments} run-{products}"), &variables);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(31), "{products}: {text}");
        let last = text.lines().last().unwrap_or_default();
        assert!(last.contains("out of memory on device `cuda:0`"), "{last}");
        assert!(last.contains("out of device memory allocating"), "{last}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// What a toolkit lacks, or a driver, is found out before anything is trained.
#[test]
fn what_kernels_lack_is_named_when_a_device_is_opened() {
    let folder = folder("lacking");
    // No kernel of an earlier process.
    let cache = folder.join("cache").display().to_string();
    for (name, variable, named) in [
        (
            "headers",
            ("CUDA_PATH", "/nonexistent"),
            ["cuda_bf16.h", "headers"],
        ),
        (
            "driver",
            ("STAND_IN_REFUSES_PTX", "1"),
            ["newer driver", "CUDA_PATH"],
        ),
    ] {
        let variables = [variable, ("XDG_CACHE_HOME", cache.as_str())];
        let output = train(&folder, "--device cuda:0", &variables);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(32), "{name}: {text}");
        let last = text.lines().last().unwrap_or_default();
        assert!(last.contains("device `cuda:0` cannot be used"), "{last}");
        for named in named {
            assert!(last.contains(named), "{named}: {last}");
        }
    }
    // What the driver has refused is not served again to the one that was installed since.
    let variables = [
        ("STAND_IN_DRIVER_VERSION", "13010"),
        ("XDG_CACHE_HOME", cache.as_str()),
    ];
    let arguments = "gpu-check --device cuda:0 --part device --out results";
    let output = program(&folder, arguments, &variables);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for driver in ["12.9", "13.1"] {
        assert!(
            holds_file(&folder.join("cache"), &format!("-driver-{driver}.db")),
            "{driver}"
        );
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// Whether a folder, or one inside it, has a file whose name ends like that.
fn holds_file(folder: &Path, end: &str) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        path.to_string_lossy().ends_with(end) || path.is_dir() && holds_file(&path, end)
    })
}

/// Bfloat16 is refused where the card has none, and not at the first kernel.
#[test]
fn a_card_without_bfloat16_is_refused() {
    let folder = folder("no-bf16");
    let output = train(
        &folder,
        "--device cuda:0",
        &[("STAND_IN_CAPABILITY", "6.1")],
    );
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    let last = text.lines().last().unwrap_or_default();
    assert!(last.contains("compute capability 6.1"), "{last}");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// What is launched is not taken for what is replayed, by whoever times it.
#[test]
fn steps_that_could_not_be_captured_are_told_apart_where_they_are_timed() {
    let folder = folder("timed");
    let fails = [("STAND_IN_CAPTURE_FAILS", "-1")];
    let arguments = "bench-step --depth 28 --width 0.02 --latent-dim 4 --batch-size 8 --device cuda:0 --steps 1 --warmup 2";
    let output = program(&folder, arguments, &fails);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("launched        kernel by kernel"), "{text}");
    assert!(text.contains("cuStreamEndCapture failed"), "{text}");

    let check = "gpu-check --device cuda:0 --part step-28-25-f32 --out results";
    let output = program(&folder, check, &fails);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("FAILED") && text.contains("cuStreamEndCapture failed"),
        "{text}"
    );
    let table = std::fs::read_to_string(folder.join("results/results.md")).expect("the table");
    assert!(
        table.contains("| 28 | 25 | f32 | ours, launched |"),
        "{table}"
    );
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// A score that was not replayed takes longer, and says why once.
#[test]
fn batches_that_could_not_be_captured_are_told_where_a_finished_run_is_scored() {
    let folder = folder("scored");
    let output = train(
        &folder,
        "--device cuda:0 --limit-train 40 --run-dir run",
        &[],
    );
    assert_eq!(output.status.code(), Some(0));
    for (fails, told) in [("", 0), ("-1", 1)] {
        let arguments =
            "evaluate --run-dir run --split train --batch-size 2 --device cuda:0 --json";
        let variables = [("STAND_IN_CAPTURE_FAILS", fails)];
        let output = program(&folder, arguments, &variables[..told]);
        let text = String::from_utf8_lossy(&output.stderr);
        // The stand-in computes nothing, so that there may be no score.
        let found = text
            .matches("batches are launched kernel by kernel")
            .count();
        assert_eq!(found, told, "{text}");
        assert_eq!(
            text.contains("cuStreamEndCapture failed"),
            told == 1,
            "{text}"
        );
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// Number 0 is the rehearsal, 1 the step and 2 the validation: whichever fails, the run goes on without graphs, and says so once.
#[test]
fn a_capture_that_fails_costs_the_graph_and_not_the_run() {
    let folder = folder("no-graph");
    for number in ["0", "1", "2"] {
        let arguments = format!(
            "--device cuda:0 --limit-train 40 --epochs 2 --ema 0.9 --checkpoint-every 1 --run-dir without-{number}"
        );
        let output = train(&folder, &arguments, &[("STAND_IN_CAPTURE_FAILS", number)]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{number}: {text}");
        let told = text.matches("steps are launched kernel by kernel").count();
        assert_eq!(told, 1, "{number}: {text}");
        assert!(text.contains("cuStreamEndCapture failed"), "{text}");
        let report = std::fs::read_to_string(folder.join("report")).expect("the stand-in's report");
        std::fs::remove_file(folder.join("report")).expect("removed");
        // Ten steps, the captured one launched three times where its capture fails; replayed are nine where only the validation's does.
        let steps = report.matches("\nlaunch adam").count();
        let expected = match number {
            "0" => 10,
            "1" => 12,
            _ => 3,
        };
        assert!(steps >= expected, "{number}: {steps} steps");
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

/// The last product of a step has none behind it in which its failure would show.
#[test]
fn a_step_without_one_of_its_products_is_not_saved() {
    let arguments = "--device cuda:0 --limit-train 24 --checkpoint-every 1";
    let whole = folder("whole-products");
    let output = train(&whole, arguments, &[]);
    assert!(output.status.success(), "{output:?}");
    let report = std::fs::read_to_string(whole.join("report")).expect("the stand-in's report");
    let of_first_step = report
        .lines()
        .take_while(|line| !line.starts_with("launch adam"));
    let products = of_first_step
        .filter(|line| *line == "launch cublaslt")
        .count();
    assert!(products > 50, "{products} products are not a step's");

    let folder = folder("missing-product");
    let last = (products - 1).to_string();
    let output = train(&folder, arguments, &[("STAND_IN_PRODUCT_FAILS", &last)]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(32), "{text}");
    assert!(text.contains("cublasLtMatmul"), "{text}");
    let checkpoints = std::fs::read_dir(folder.join("run/checkpoints"));
    let saved = checkpoints.map_or(0, |files| files.count());
    assert_eq!(saved, 0, "{text}");
    for folder in [whole, folder] {
        std::fs::remove_dir_all(folder).expect("the folder goes");
    }
}

/// Both cards make the same passes, and the first one alone the update.
#[test]
fn two_cards_of_a_process_share_a_step() {
    let folder = folder("two-cards");
    let arguments = "--device cuda:0,cuda:1 --limit-train 24";
    let output = train(&folder, arguments, &[("STAND_IN_CARDS", "2")]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let report = std::fs::read_to_string(folder.join("report")).expect("the stand-in's report");
    let launches = |kernel: &str, card: &str| {
        let of_card = report.lines().filter_map(|line| {
            let name = line.strip_prefix("launch ")?;
            let (name, on) = name.split_once(" on ").unwrap_or((name, "0"));
            (on == card).then_some(name)
        });
        of_card.filter(|name| name.starts_with(kernel)).count()
    };
    // Three batches, each in a shard a card.
    for (kernel, of_first, of_second) in [("weigh", 3, 3), ("adam", 3, 0)] {
        let found = [launches(kernel, "0"), launches(kernel, "1")];
        assert_eq!(found, [of_first, of_second], "{kernel}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}
