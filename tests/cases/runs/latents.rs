//! What the latents do, through the program.

use end_to_end_tests::Bench;

use super::likelihoods::{number, train};

#[test]
fn latents_are_traversed_interpolated_and_drawn_from_a_mixture() {
    let bench = Bench::new();
    train(&bench, "r", &["--beta", "0"]);
    let shown = bench
        .trainer(&[
            "traverse",
            "--run-dir",
            "r",
            "--out",
            "t.png",
            "--dimensions",
            "3",
        ])
        .success();
    assert_eq!(shown.stdout.matches("nats an image").count(), 3);
    bench
        .trainer(&[
            "interpolate",
            "--run-dir",
            "r",
            "--out",
            "i.png",
            "--pair",
            "0,19",
        ])
        .success();
    bench
        .trainer(&[
            "interpolate",
            "--run-dir",
            "r",
            "--out",
            "i.png",
            "--pair",
            "0,20",
        ])
        .failure(2, &["--pair 20", "20 images"]);
    let sample = |out: &str, flags: &[&str]| {
        let all = [
            &["sample", "--run-dir", "r", "--rows", "1", "--out", out],
            flags,
        ]
        .concat();
        bench.trainer(&all).success();
        bench.read(out)
    };
    let plain = sample("a.png", &[]);
    assert_eq!(plain, sample("b.png", &["--temperature", "1"]));
    assert_ne!(plain, sample("b.png", &["--temperature", "0.5"]));
    let mixture = sample("c.png", &["--prior", "mixture:2"]);
    assert_ne!(plain, mixture);
    // The second time it is read from the run folder.
    assert!(bench.path("r/prior-mixture-2.json").exists());
    assert_eq!(mixture, sample("d.png", &["--prior", "mixture:2"]));
    bench
        .trainer(&[
            "sample",
            "--run-dir",
            "r",
            "--out",
            "e.png",
            "--temperature",
            "-1",
        ])
        .failure(2, &["--temperature"]);
}

#[test]
fn latents_are_measured_and_the_report_shows_them() {
    let bench = Bench::new();
    train(&bench, "r", &["--beta", "0.5"]);
    let report = bench.trainer(&["report", "--run-dir", "r"]);
    report.success();
    let html = || bench.read_text("r/report.html");
    for text in [
        "mutual information",
        "No estimate of mutual information from 20 images exceeds",
        "Traversals of the most used dimensions",
        "Interpolations between test images",
        // What was minimised, beside the bound.
        "Objective (training), negative ELBO (validation)",
    ] {
        assert!(html().contains(text), "{text}");
    }
    let found = bench
        .trainer(&["latents", "--run-dir", "r", "--images", "10", "--json"])
        .success()
        .json();
    assert_eq!(found["images"], 10);
    assert!((number(&found["ceiling"]) - 10f64.ln()).abs() < 1e-12);
    assert!(number(&found["mutual_information"]) <= number(&found["ceiling"]) + 1e-9);
    let parts = number(&found["mutual_information"]) + number(&found["aggregated_posterior_kl"]);
    assert!((parts - number(&found["average_kl"])).abs() < 1e-9);
    // The report shows what was measured last; where there is no data it is written without.
    bench.trainer(&["report", "--run-dir", "r"]).success();
    assert!(html().contains("from 10 images exceeds"));
    for name in ["latents.json", "traversals.png", "interpolations.png"] {
        std::fs::remove_file(bench.path("r").join(name)).expect("was there");
    }
    bench
        .trainer(&["report", "--run-dir", "r", "--data-dir", "nowhere"])
        .success();
    assert!(html().contains("They are drawn, and mutual information is measured, by"));
}
