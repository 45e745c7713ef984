//! The bytes of summaries, and what becomes of broken ones.

use serde_json::Value;
use serde_json::json;

use super::*;
use crate::metrics::OptionalMetrics;
use crate::run_folder::pretty;
use crate::run_record::example::summary;

/// Summaries that runs of the demo preset wrote at commit 6aead36 (width 0.02, 4 latent dimensions, 40 images, batches of 10): of
/// one that went through its single epoch, of one that stopped early, with `--ema 0.9 --beta 2`, and of one with `--likelihood
/// logistic` besides, which has bits per dimension and neither floor nor excess.
const WRITTEN: [&str; 3] = [
    include_str!("../../../tests/golden/summary-finished.json"),
    include_str!("../../../tests/golden/summary-stopped.json"),
    include_str!("../../../tests/golden/summary-stopped-logistic.json"),
];

#[test]
fn summaries_of_runs_are_written_as_they_were_read_to_the_byte() {
    for (text, stopped_early) in WRITTEN.into_iter().zip([false, true, true]) {
        let value: Value = serde_json::from_str(text).unwrap();
        let summary = RunSummary::from_json(&value).unwrap();
        assert_eq!(summary.stopped_early, stopped_early);
        assert_eq!(String::from_utf8(pretty(&summary.to_json())).unwrap(), text);
    }
}

#[test]
fn every_number_has_its_place() {
    let mut summary = summary();
    summary.stopped_early = true;
    summary.best.skipped_steps = 3;
    summary.best.last_learning_rate = 0.0005;
    summary.last.train.kl = f64::NAN;
    summary.last.optional = OptionalMetrics {
        train_bits_per_dim: Some(7.5),
        valid_bits_per_dim: Some(f64::INFINITY),
        train_objective: None,
        kl_weight: Some(0.5),
        valid_elbo: Some(-1905.5),
        valid_loss_without_average: Some(1911.0),
    };
    summary.test.excess = f64::NAN;
    summary.test_bits_per_dim = Some(7.25);
    summary.latent.mean_variance[1] = f64::NAN;
    summary.floor.valid = f64::NEG_INFINITY;
    let text = concat!(
        r#"{"weights_of_epoch":1,"stopped_early":true,"#,
        r#""best":{"epoch":1,"learning_rate":0.001,"last_learning_rate":0.0005,"skipped_steps":3,"#,
        r#""train":{"loss":1899.25,"cross_entropy":1859.25,"excess":179.25,"kl":33.1,"l2":1e-7},"#,
        r#""valid":{"loss":1909.1,"cross_entropy":1869.1,"excess":189.0999999999999,"kl":33.1,"l2":1e-7}},"#,
        r#""last":{"epoch":2,"learning_rate":0.001,"last_learning_rate":0.001,"skipped_steps":0,"#,
        r#""train":{"loss":1898.25,"cross_entropy":1858.25,"excess":178.25,"kl":null,"l2":1e-7},"#,
        r#""valid":{"loss":1908.1,"cross_entropy":1868.1,"excess":188.0999999999999,"kl":33.1,"l2":1e-7},"#,
        r#""train/bits_per_dim":7.5,"valid/bits_per_dim":null,"kl_weight":0.5,"valid/elbo":-1905.5,"#,
        r#""valid/loss_without_average":1911.0},"#,
        r#""test":{"loss":1899.9,"cross_entropy":1859.9,"excess":null,"kl":33.1,"l2":1e-7,"bits_per_dim":7.25},"#,
        r#""latent":{"active_dimensions":2,"kl_per_dimension":[0.30000000000000004,1e-9,4.5],"#,
        r#""mean_variance":[0.5,null,0.9]},"#,
        r#""parameters":{"encoder":10,"decoder":20,"total":30},"#,
        r#""multiply_accumulates_per_image":{"encoder":100,"decoder":200,"total":300},"#,
        r#""images":{"train":150,"valid":20,"test":20},"#,
        r#""floor":{"train":1678.9,"valid":null,"test":1681.7}}"#,
    );
    assert_eq!(summary.to_json().to_string(), text);
    let read = RunSummary::from_json(&serde_json::from_str(text).unwrap()).unwrap();
    assert_eq!(read.to_json().to_string(), text);
    assert!(read.floor.valid.is_nan() && read.last.optional.valid_bits_per_dim.is_some());
}

/// Before the rates of an epoch's steps could differ, its row had one.
#[test]
fn a_summary_of_an_older_program_has_one_learning_rate() {
    let mut value = summary().to_json();
    value["best"]["learning_rate"] = json!(0.25);
    let best = value["best"].as_object_mut().unwrap();
    best.remove("last_learning_rate");
    let read = RunSummary::from_json(&value).unwrap();
    assert_eq!(read.best.last_learning_rate, 0.25);
    assert_eq!(read.last.last_learning_rate, 0.001);
}

#[test]
fn a_summary_reads_back_bit_for_bit() {
    let summary = summary();
    let text = format!("{:#}", summary.to_json());
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(RunSummary::from_json(&value).unwrap(), summary);
    assert_eq!(value["latent"]["active_dimensions"], 2);
}

#[test]
fn null_reads_as_nan_and_unknown_keys_are_passed_over() {
    let mut value = summary().to_json();
    value["test"]["kl"] = Value::Null;
    value["latent"]["mean_variance"][0] = Value::Null;
    value["another"] = json!({"key": 1});
    let read = RunSummary::from_json(&value).unwrap();
    assert!(read.test.kl.is_nan() && read.latent.mean_variance[0].is_nan());
    assert_eq!(read.test.excess, summary().test.excess);
}

#[test]
fn what_is_wrong_is_named_with_its_path() {
    let mut missing = summary().to_json();
    missing["best"]["valid"]
        .as_object_mut()
        .unwrap()
        .remove("kl");
    let mut wrong = summary().to_json();
    wrong["parameters"]["total"] = json!(-1);
    let mut unequal = summary().to_json();
    unequal["latent"]["kl_per_dimension"] = json!([1.0]);
    for (value, message) in [
        (missing, "best.valid: missing field `kl`"),
        (
            wrong,
            "parameters.total: invalid value: integer `-1`, expected u64",
        ),
        (unequal, "`latent` has 1 divergences and 3 variances"),
        (json!({}), "missing field `best`"),
    ] {
        assert_eq!(RunSummary::from_json(&value).unwrap_err(), message);
    }
}
