//! The moving average of the weights, and both scores of a run that keeps one, through the program.

use end_to_end_tests::{Bench, tiny};

use super::likelihoods::{bits, number, train};

/// Of the run in the folder `whole`, with the draws and thus the numbers of training.
fn both_scores_are_evaluated(bench: &Bench) {
    let evaluate = |flags: &[&str]| {
        let all = [&["evaluate", "--run-dir", "whole"], flags].concat();
        bench.trainer(&all).success()
    };
    let summary = bench.read_json("whole/summary.json");
    let found = evaluate(&["--json"]).json();
    for term in ["loss", "cross_entropy", "kl", "l2"] {
        assert_eq!(found["terms"][term], summary["test"][term]);
    }
    let without = &found["without_average"];
    assert_ne!(without["terms"]["loss"], found["terms"]["loss"]);
    let nats = number(&without["terms"]["cross_entropy"]) + number(&without["terms"]["kl"]);
    assert!((number(&without["elbo"]) + nats).abs() < 1e-9);
    assert!((number(&without["bits_per_dim"]) - bits(nats)).abs() < 1e-12);
    let text = evaluate(&[]).stdout;
    assert!(text.contains("the weights themselves, without their average:\nloss "));

    // The bound is the average's, whether the weights themselves have been scored before it or not.
    let bound = || evaluate(&["--importance-samples", "3", "--json"]).json();
    let beside = bound();
    std::fs::rename(bench.path("whole/checkpoints"), bench.path("away")).expect("moved");
    let alone = bound();
    std::fs::rename(bench.path("away"), bench.path("whole/checkpoints")).expect("moved");
    assert!(beside.get("without_average").is_some() && alone.get("without_average").is_none());
    assert_eq!(beside["importance"], alone["importance"]);

    // The weights of the best epoch's checkpoint in the average's place have that score. No checkpoint has an average that is
    // equal to them, and a note says so.
    let best = &summary["best"]["epoch"];
    let checkpoint = format!(
        "whole/checkpoints/epoch-{:0>4}-batch-00000/model.safetensors",
        best.to_string()
    );
    let exported = bench.read("whole/model.safetensors");
    std::fs::write(
        bench.path("whole/model.safetensors"),
        bench.read(&checkpoint),
    )
    .expect("written");
    let list = bench.read("whole/files.json");
    std::fs::remove_file(bench.path("whole/files.json")).expect("removed");
    let trained = evaluate(&["--json"]).json();
    assert_eq!(trained["terms"], without["terms"]);
    assert!(trained.get("without_average").is_none());
    let note = trained["notes"][0].as_str().expect("a note");
    assert!(note.contains("not scored"), "{note}");
    std::fs::write(bench.path("whole/model.safetensors"), exported).expect("written");
    std::fs::write(bench.path("whole/files.json"), list).expect("written");
}

#[test]
fn an_average_of_weights_is_scored_and_resumed_bit_for_bit() {
    let bench = Bench::new();
    let flags = ["--ema", "0.9", "--likelihood", "logistic"];
    train(&bench, "whole", &flags);
    for row in bench.rows("whole") {
        assert_ne!(row["valid/loss"], row["valid/loss_without_average"]);
    }
    both_scores_are_evaluated(&bench);
    // One epoch, then another.
    let short = [&flags[..], &["--epochs", "1"]].concat();
    let halves = tiny("--limit-train 60 --limit-test 20 --run-dir halves");
    let first = [&halves[..], &short];
    bench.trainer(&first.concat()).success();
    bench
        .trainer(&["train", "--run-dir", "halves", "--resume", "--epochs", "2"])
        .success();
    for file in ["metrics.jsonl", "metrics.csv", "model.safetensors"] {
        assert!(
            bench.read(&format!("whole/{file}")) == bench.read(&format!("halves/{file}")),
            "{file} differs"
        );
    }
    bench
        .trainer(&[
            "train",
            "--run-dir",
            "halves",
            "--resume",
            "--epochs",
            "3",
            "--ema",
            "0.5",
            "--allow-config-change",
        ])
        .failure(2, &["ema"]);
}
