//! Likelihoods over grey levels, bounds and objectives, through the program.

use end_to_end_tests::{Bench, tiny};
use serde_json::Value;

/// A run of seconds on the embedded sample, with these flags besides.
pub(super) fn train(bench: &Bench, run: &str, flags: &[&str]) {
    let run = tiny("--limit-train 60 --limit-test 20 --epochs 2 --run-dir")
        .into_iter()
        .chain([run]);
    let all: Vec<&str> = run.chain(flags.iter().copied()).collect();
    bench.trainer(&all).success();
}

pub(super) fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

pub(super) fn bits(nats: f64) -> f64 {
    nats / (3072.0 * 2f64.ln())
}

#[test]
fn bits_per_dimension_stand_where_the_likelihood_is_over_levels_and_nowhere_else() {
    let bench = Bench::new();
    for likelihood in [
        "logistic:global",
        "logistic-mixture:3",
        "gaussian",
        "renormalised-bernoulli",
    ] {
        let run = likelihood.replace(':', "-");
        train(&bench, &run, &["--likelihood", likelihood]);
        for row in bench.rows(&run) {
            let nats = number(&row["valid/cross_entropy"]) + number(&row["valid/kl"]);
            assert!((number(&row["valid/bits_per_dim"]) - bits(nats)).abs() < 1e-12);
            assert!((number(&row["valid/elbo"]) + nats).abs() < 1e-9);
            // A log-probability has no floor to exceed.
            assert!(row["valid/excess"].is_null());
            // Nothing is far from a uniform distribution's 8 bits after four steps. (In training a Gaussian is, at first:
            // its tails cost the square of the distance.)
            assert!(
                (3.0..30.0).contains(&number(&row["valid/bits_per_dim"])),
                "{row}"
            );
            assert!(number(&row["train/bits_per_dim"]) > 3.0, "{row}");
        }
        let summary = bench.read_json(&format!("{run}/summary.json"));
        let evaluate = bench
            .trainer(&["evaluate", "--run-dir", &run, "--json"])
            .success()
            .json();
        assert_eq!(
            summary["test"]["bits_per_dim"], evaluate["bits_per_dim"],
            "{likelihood}"
        );
        bench
            .trainer(&["sample", "--run-dir", &run, "--out", "s.png", "--rows", "1"])
            .success();
        let config = bench.read_json(&format!("{run}/config.json"));
        assert_eq!(config["likelihood"], likelihood);
    }
    train(&bench, "post", &[]);
    let row = &bench.rows("post")[1];
    assert!(row.get("valid/bits_per_dim").is_none() && row.get("valid/elbo").is_none());
    let evaluate = |flags: &[&str]| {
        let all = [&["evaluate", "--run-dir", "post", "--json"], flags].concat();
        bench.trainer(&all).success().json()
    };
    assert!(evaluate(&[])["bits_per_dim"].is_null());
    let note = &evaluate(&[])["notes"][0];
    assert!(
        note.as_str()
            .expect("a note")
            .contains("no distribution over grey levels")
    );
    // The same model as a distribution over levels: other numbers, and bits.
    let rescored = evaluate(&["--likelihood", "renormalised-bernoulli"]);
    assert!(
        number(&rescored["bits_per_dim"]) > 7.18,
        "no Bernoulli model gets below"
    );
    assert_eq!(rescored["terms"]["kl"], evaluate(&[])["terms"]["kl"]);
    bench
        .trainer(&["evaluate", "--run-dir", "post", "--likelihood", "logistic"])
        .failure(2, &["--likelihood logistic", "trained with bernoulli"]);
    bench
        .trainer(&[
            "train",
            "--likelihood",
            "logistic-mixture:0",
            "--print-config",
        ])
        .failure(2, &["logistic-mixture:K"]);
}

/// The post's deviation is not the one that its KL divergence is of, so that the sum of its terms is no bound.
#[test]
fn under_the_posts_sampler_only_weighted_draws_bound_the_likelihood() {
    let bench = Bench::new();
    let flags = [
        "--likelihood",
        "logistic",
        "--sampler",
        "blog",
        "--beta",
        "0.5",
    ];
    train(&bench, "r", &flags);
    for row in bench.rows("r") {
        for key in ["train/bits_per_dim", "valid/bits_per_dim", "valid/elbo"] {
            assert!(row.get(key).is_none(), "{row}");
        }
        let parts = ["valid/cross_entropy", "valid/kl", "valid/l2"].map(|key| number(&row[key]));
        assert!((number(&row["valid/loss"]) - parts.iter().sum::<f64>()).abs() < 1e-9);
    }
    let summary = bench.read_json("r/summary.json");
    assert!(summary["test"].get("bits_per_dim").is_none(), "{summary}");
    let evaluate = |flags: &[&str]| {
        let all = [&["evaluate", "--run-dir", "r"], flags].concat();
        bench.trainer(&all).success()
    };
    let found = evaluate(&["--importance-samples", "8", "--json"]).json();
    assert!(found["elbo"].is_null() && found["bits_per_dim"].is_null());
    assert!(
        found["notes"][0]
            .as_str()
            .expect("a note")
            .contains("bounds nothing")
    );
    assert_eq!(found["terms"], summary["test"]);
    // The same draws, by the divergence of what is drawn.
    assert!(number(&found["importance"]["elbo"]["bits_per_dim"]) > 0.0);
    let text = evaluate(&[]).stdout;
    assert!(
        !text.contains("ELBO   ") && text.contains("note: "),
        "{text}"
    );
    // The correct sampler has a bound of the same weights.
    let correct = evaluate(&["--sampler", "correct", "--json"]).json();
    assert!(number(&correct["elbo"]) < 0.0 && correct.get("notes").is_none());

    bench.trainer(&["report", "--run-dir", "r"]).success();
    let page = bench.read_text("r/report.html");
    assert!(page.contains("bounds nothing") && !page.contains("its per dimension"));
}

#[test]
fn the_importance_weighted_bound_does_not_depend_on_the_batch() {
    let bench = Bench::new();
    train(&bench, "r", &["--likelihood", "logistic"]);
    let evaluate = |samples: &str, batch: &str| {
        let flags = [
            "--importance-samples",
            samples,
            "--batch-size",
            batch,
            "--json",
        ];
        let all = [&["evaluate", "--run-dir", "r"][..], &flags].concat();
        bench.trainer(&all).success().json()["importance"].clone()
    };
    let [whole, parts] = ["20", "3"].map(|batch| evaluate("8", batch));
    for of in ["elbo", "bound"] {
        let [a, b] = [&whole, &parts].map(|it| number(&it[of]["nats"]));
        assert!((a - b).abs() < 1e-3, "{of}: {a} {b}");
        let bits = number(&whole[of]["bits_per_dim"]);
        assert!((bits + a / (3072.0 * 2f64.ln())).abs() < 1e-12);
    }
    assert_eq!(
        (&whole["samples"], &whole["images"]),
        (&8.into(), &20.into())
    );
    // Of the same draws the bound is tighter.
    assert!(number(&whole["bound"]["nats"]) > number(&whole["elbo"]["nats"]) - 2.0);
    assert!(number(&whole["bound"]["standard_error"]) > 0.0);
    for count in ["0", "10001"] {
        bench
            .trainer(&["evaluate", "--run-dir", "r", "--importance-samples", count])
            .failure(2, &["from 1 to 10000"]);
    }

    // The first images alone.
    let scored = |images: &str| {
        let flags = ["evaluate", "--run-dir", "r", "--images", images];
        let more = ["--importance-samples", "8", "--json"];
        bench
            .trainer(&[&flags[..], &more].concat())
            .success()
            .json()
    };
    let first = scored("12");
    assert_eq!(
        (&first["images"], &first["importance"]["images"]),
        (&12.into(), &12.into())
    );
    assert_ne!(first["elbo"], scored("20")["elbo"]);
    assert_eq!(
        scored("21")["importance"]["bound"],
        scored("20")["importance"]["bound"]
    );
    bench
        .trainer(&["evaluate", "--run-dir", "r", "--images", "0"])
        .failure(2, &["--images"]);
}

#[test]
fn objectives_change_what_is_minimised_and_not_what_is_scored() {
    let bench = Bench::new();
    train(&bench, "plain", &[]);
    let plain = bench.rows("plain");
    train(&bench, "none", &["--beta", "0"]);
    let free = [
        "--beta",
        "0.5",
        "--kl-warmup",
        "linear:6",
        "--free-bits",
        "0.1",
    ];
    train(&bench, "free", &free);
    // A batch in parts meets the same objective.
    train(
        &bench,
        "parts",
        &[&free[..], &["--micro-batch-size", "13"]].concat(),
    );
    for run in ["none", "free", "parts"] {
        for row in bench.rows(run) {
            let sum = |split: &str| -> f64 {
                ["cross_entropy", "kl", "l2"]
                    .map(|key| number(&row[format!("{split}/{key}")]))
                    .iter()
                    .sum()
            };
            assert!((number(&row["valid/loss"]) - sum("valid")).abs() < 1e-9);
            assert!((number(&row["train/loss"]) - sum("train")).abs() < 1e-9);
            let elbo = number(&row["valid/cross_entropy"]) + number(&row["valid/kl"]);
            assert!((number(&row["valid/elbo"]) + elbo).abs() < 1e-9, "{row}");
        }
    }
    let none = bench.rows("none");
    let objective = number(&none[0]["train/cross_entropy"]) + number(&none[0]["train/l2"]);
    assert!((number(&none[0]["train/objective"]) - objective).abs() < 1e-6);
    assert_eq!(none[0]["kl_weight"], 0.0);
    // Without its cost the divergence is larger.
    assert!(number(&none[1]["valid/kl"]) > number(&plain[1]["valid/kl"]));
    // Two updates an epoch: the second one's weight is 1/6 of a half, the fourth one's 3/6.
    let weights: Vec<f64> = bench
        .rows("free")
        .iter()
        .map(|row| number(&row["kl_weight"]))
        .collect();
    assert_eq!(weights, [0.5 * (1.0 / 6.0), 0.5 * (3.0 / 6.0)]);
    // Rows of runs that minimise the loss have no such columns.
    assert!(plain[0].get("train/objective").is_none() && plain[0].get("kl_weight").is_none());
}

#[test]
fn the_self_test_shows_its_bounds_in_order() {
    let bench = Bench::new();
    let found = bench.trainer(&["self-test", "--json"]).success().json();
    let bounds: Vec<f64> = found["importance_weighted"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|bound| number(&bound["nats"]))
        .collect();
    assert!(
        bounds.windows(2).all(|pair| pair[0] < pair[1]),
        "{bounds:?}"
    );
    assert!(number(&found["elbo"]) < bounds[1]);
    bench
        .trainer(&["self-test", "--data", "19"])
        .failure(2, &["--data", "from 20 on", "chance"]);
    let text = bench
        .trainer(&["self-test", "--data", "20"])
        .success()
        .stdout;
    for expected in [
        "20 data points, nats a point",
        "IW bound, 1 draw ",
        "IW bound, 10 draws",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    assert!(bounds[3] < number(&found["log_likelihood"]) + 0.05);
    assert!(number(&found["kl_of_the_posts_draws"]) > number(&found["kl"]) + 0.1);
    assert!(
        found["checks"]
            .as_array()
            .expect("a list")
            .iter()
            .all(|check| check["holds"] == true)
    );
}

#[test]
fn a_fid_is_refused_where_it_would_say_nothing() {
    let bench = Bench::new();
    train(&bench, "r", &[]);
    std::fs::write(bench.path("w.pth"), b"not weights").expect("written");
    let fid = |flags: &[&str]| {
        let all = [&["fid", "--run-dir", "r", "--weights", "w.pth"], flags].concat();
        bench.trainer(&all)
    };
    fid(&["--images", "2047"]).failure(2, &["--images 2047", "at least 2048", "papers"]);
    // The embedded sample has 500 test images, and this run 20 of them.
    fid(&["--images", "2048"]).failure(2, &["--split test", "20 images", "2048"]);
}
