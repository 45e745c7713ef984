//! Numbers that say what they are said to.

use end_to_end_tests::{Bench, tiny};
use serde_json::Value;

const TINY: &str = "--batch-size 25 --limit-train 150 --limit-test 130 --json";

fn train(bench: &Bench, run_dir: &str, more: &[&str]) {
    let flags = [&tiny(TINY)[..], &["--run-dir", run_dir], more].concat();
    bench.trainer(&flags).success();
}

fn number(value: &Value, name: &str) -> f64 {
    value[name]
        .as_f64()
        .unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// At the post's intermediate size the two heads have 16384 x 256 weights each, from which on Burn adds in parallel.
#[test]
fn the_number_of_threads_changes_no_byte_at_the_posts_size_of_the_heads() {
    let bench = Bench::new();
    let runs = [("1", "a"), ("2", "b"), ("2", "c"), ("3", "d"), ("1", "e")];
    for (threads, run_dir) in runs {
        let output = bench
            .trainer_command()
            .args(tiny("--intermediate-dim 1024 --latent-dim 256 --limit-train 50 --limit-test 10 --epochs 1"))
            .args(["--skip-gradient-norm", "1000", "--run-dir", run_dir])
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .expect("ended");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let checkpoint = "checkpoints/epoch-0001-batch-00000";
    let states = [
        "metrics.jsonl".to_owned(),
        "model.safetensors".to_owned(),
        format!("{checkpoint}/optimizer.safetensors"),
        // With the gradient norms that `--skip-gradient-norm` judges by.
        format!("{checkpoint}/state.json"),
    ];
    for (_, run_dir) in &runs[1..] {
        for name in &states {
            let read = |run_dir: &str| bench.read(&format!("{run_dir}/{name}"));
            assert!(
                read("a") == read(run_dir),
                "{name} of a and {run_dir} differ"
            );
        }
    }
}

#[test]
fn the_excess_over_cropped_images_is_over_their_own_floor() {
    let bench = Bench::new();
    for (run_dir, augment) in [
        ("plain", "none"),
        ("flipped", "flip"),
        ("cropped", "flip-crop"),
    ] {
        train(&bench, run_dir, &["--epochs", "1", "--augment", augment]);
    }
    let floor = |run_dir: &str| {
        let row = &bench.rows(run_dir)[0];
        number(row, "train/cross_entropy") - number(row, "train/excess")
    };
    let summary = bench.read_json("plain/summary.json");
    let raw = number(&summary["floor"], "train");
    assert!((floor("plain") - raw).abs() < 1e-9);
    assert!(
        (floor("flipped") - raw).abs() < 1e-9,
        "a flip shows the same pixels"
    );
    // A window of 32 in 40 is off by 20/9 rows and columns in the mean, which are black.
    let visible = (1.0 - 20.0 / 9.0 / 32.0f64).powi(2);
    let share = floor("cropped") / raw;
    assert!(
        (share - visible).abs() < 0.02,
        "{share} of the floor, {visible} of the pixels"
    );
}

/// Makes the decoder's pictures depend on the latent, and so on its noise, as after a short training they hardly do.
fn sharpen(bench: &Bench, run_dir: &str) {
    let name = format!("{run_dir}/model.safetensors");
    let mut bytes = bench.read(&name);
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
    for (tensor, factor) in [
        ("decoder.dense.weight", 1e4),
        ("decoder.output.weight", 1e3),
    ] {
        let offset = |index: usize| {
            let offset = &header[tensor]["data_offsets"][index];
            8 + length + offset.as_u64().expect("an offset") as usize
        };
        for value in bytes[offset(0)..offset(1)].chunks_exact_mut(4) {
            let number = f32::from_le_bytes(value.try_into().expect("four"));
            value.copy_from_slice(&(factor * number).to_le_bytes());
        }
    }
    std::fs::write(bench.path(&name), bytes).expect("written");
    // It lists the weights as they were.
    let _ = std::fs::remove_file(bench.path(&format!("{run_dir}/files.json")));
}

#[test]
fn a_score_does_not_depend_on_how_many_images_are_taken_at_a_time() {
    let bench = Bench::new();
    train(&bench, "r", &["--epochs", "1"]);
    let score = |batch_size: &str| {
        let ended = bench.trainer(&[
            "evaluate",
            "--run-dir",
            "r",
            "--batch-size",
            batch_size,
            "--json",
        ]);
        ended.success().json()["terms"].clone()
    };
    let expected = score("100");
    let summary = bench.read_json("r/summary.json");
    assert_eq!(expected, summary["test"]);
    sharpen(&bench, "r");
    let expected = score("100");
    let other_noise = bench
        .trainer(&["evaluate", "--run-dir", "r", "--sampler", "blog", "--json"])
        .success()
        .json();
    let difference =
        number(&other_noise["terms"], "cross_entropy") / number(&expected, "cross_entropy") - 1.0;
    assert!(difference.abs() > 1e-5, "noise matters: {difference}");
    for batch_size in ["1", "7", "33", "130", "1000"] {
        let found = score(batch_size);
        for term in ["loss", "cross_entropy", "kl"] {
            let (found, expected) = (number(&found, term), number(&expected, term));
            // Sums over a batch are rounded to float32.
            assert!(
                (found / expected - 1.0).abs() < 1e-6,
                "{term} by {batch_size}: {found} and {expected}"
            );
        }
    }
}

#[test]
fn the_learning_rate_of_an_epoch_is_the_mean_and_the_last_of_its_steps() {
    let bench = Bench::new();
    // Six steps an epoch.
    train(&bench, "r", &["--epochs", "2", "--warmup-steps", "6"]);
    let rows = bench.rows("r");
    let mean = (1..=6)
        .map(|step| 0.001 * f64::from(step) / 6.0)
        .sum::<f64>()
        / 6.0;
    assert!((number(&rows[0], "learning_rate") - mean).abs() < 1e-15);
    assert_eq!(number(&rows[0], "last_learning_rate"), 0.001);
    assert_eq!(number(&rows[1], "learning_rate"), 0.001);
    assert_eq!(number(&rows[1], "last_learning_rate"), 0.001);
}

#[test]
fn a_cosine_that_is_made_longer_goes_on_along_the_longer_curve() {
    let bench = Bench::new();
    let cosine = ["--schedule", "cosine"];
    train(&bench, "r", &[&cosine[..], &["--epochs", "4"]].concat());
    train(
        &bench,
        "r",
        &["--resume", "--allow-config-change", "--epochs", "8"],
    );
    let rows = bench.rows("r");
    let (minimum, initial) = (1e-6, 0.001);
    for (index, row) in rows.iter().enumerate() {
        let of = if index < 4 { 4.0 } else { 8.0 };
        let share = (1.0 + (std::f64::consts::PI * index as f64 / of).cos()) / 2.0;
        let expected = minimum + (initial - minimum) * share;
        let found = number(row, "learning_rate");
        assert!(
            (found - expected).abs() < 1e-12,
            "epoch {}: {found}, not {expected}",
            index + 1
        );
    }
    assert_eq!(rows.len(), 8);
}

/// The decoder's dense norm sees one value an image, so that in parts of 2 images the unbiased variance is twice the other; in one
/// batch of 400 both are the same. Weights stay where they are at the smallest learning rate, so both runs estimate the same variance.
#[test]
fn running_variances_are_estimates_of_the_populations() {
    let bench = Bench::new();
    // What the updates of 1 % have taken in, of a variance that began as 1: the mean over the features.
    let of_batches = |run_dir: &str, batch: &[&str], updates: i32| {
        let all = [
            "--limit-train",
            "400",
            "--learning-rate",
            "0.000001",
            "--epochs",
            "1",
        ];
        train(&bench, run_dir, &[&all[..], batch].concat());
        let name = format!("{run_dir}/checkpoints/epoch-0001-batch-00000/model.safetensors");
        let bytes = bench.read(&name);
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("weights");
        let view = tensors
            .tensor("decoder.dense_norm.running_var")
            .expect("a tensor");
        let (values, _) = view.data().as_chunks::<4>();
        let sum: f64 = values
            .iter()
            .map(|four| f64::from(f32::from_le_bytes(*four)))
            .sum();
        let share = 1.0 - 0.99f64.powi(updates);
        (sum / values.len() as f64 - (1.0 - share)) / share
    };
    let whole = of_batches("whole", &["--batch-size", "400"], 1);
    let parts = of_batches(
        "parts",
        &["--batch-size", "100", "--micro-batch-size", "2"],
        // A step takes in the mean over its parts.
        4,
    );
    let ratio = parts / whole;
    println!("in parts of two images the variance is {ratio:.3} times that of all");
    // Four means of 50 estimates from two values each, against one estimate from 400.
    assert!(
        (0.85..1.15).contains(&ratio),
        "{ratio}: {parts} and {whole}"
    );
}

#[test]
fn several_devices_are_refused_where_one_is_timed() {
    let bench = Bench::new();
    bench
        .trainer(&["bench-step", "--device", "flex,flex"])
        .failure(2, &["bench-step", "flex,flex", "one device"]);
}

#[test]
fn after_a_divergence_the_advice_lowers_the_present_rate_and_works() {
    let bench = Bench::new();
    let flags = "--latent-dim 32 --limit-train 50 --limit-test 10 --epochs 30 --learning-rate 1 --schedule cosine";
    let diverged = [&tiny(flags)[..], &["--run-dir", "my runs/r"]].concat();
    let ended = bench
        .trainer(&diverged)
        .failure(30, &["--run-dir 'my runs/r'"]);
    let advice = ended
        .stderr
        .split('`')
        .find(|text| text.starts_with("cargo xtask train"));
    let advice = advice.expect("a command");
    assert!(advice.ends_with("--learning-rate 0.1"), "{advice}");
}
