//! Exact bytes of the metrics files, and what resuming makes of them.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::*;

fn row(epoch: u32) -> EpochRow {
    EpochRow {
        epoch,
        train: Terms {
            loss: 1834.25,
            cross_entropy: 1800.0,
            excess: 0.1 + 0.2,
            kl: 34.0,
            l2: 1e-7,
        },
        valid: Terms {
            loss: 6.3e8,
            cross_entropy: 1e22,
            excess: -0.5,
            kl: 5e-324,
            l2: 0.0,
        },
        learning_rate: 0.001,
        last_learning_rate: 0.001,
        skipped_steps: 2,
        optional: Default::default(),
    }
}

fn contents(folder: &Path) -> [String; 2] {
    [METRICS_JSONL, METRICS_CSV].map(|name| fs::read_to_string(folder.join(name)).unwrap())
}

#[test]
fn rows_have_these_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = MetricsWriter::open(folder.path(), None).unwrap();
    writer.append(&row(1)).unwrap();
    let [jsonl, csv] = contents(folder.path());
    assert_eq!(
        jsonl,
        concat!(
            r#"{"epoch":1,"train/loss":1834.25,"train/cross_entropy":1800.0,"train/excess":0.30000000000000004,"#,
            r#""train/kl":34.0,"train/l2":1e-7,"valid/loss":630000000.0,"valid/cross_entropy":1e+22,"#,
            r#""valid/excess":-0.5,"valid/kl":5e-324,"valid/l2":0.0,"learning_rate":0.001,"last_learning_rate":0.001,"skipped_steps":2}"#,
            "\n"
        )
    );
    assert_eq!(
        csv,
        concat!(
            "epoch,train/loss,train/cross_entropy,train/excess,train/kl,train/l2,",
            "valid/loss,valid/cross_entropy,valid/excess,valid/kl,valid/l2,learning_rate,last_learning_rate,skipped_steps\n",
            "1,1834.25,1800.0,0.30000000000000004,34.0,1e-7,",
            "630000000.0,1e22,-0.5,5e-324,0.0,0.001,0.001,2\n"
        )
    );
}

#[test]
fn optional_numbers_follow_in_both_files_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let optional = OptionalMetrics {
        valid_bits_per_dim: Some(4.5),
        valid_elbo: Some(f64::NAN),
        ..OptionalMetrics::default()
    };
    let keys: Vec<&str> = optional.present().map(|(key, _)| key).collect();
    let mut writer = MetricsWriter::open_with(folder.path(), None, &keys).unwrap();
    writer.append(&EpochRow { optional, ..row(1) }).unwrap();
    let [jsonl, csv] = contents(folder.path());
    let end = r#""skipped_steps":2,"valid/bits_per_dim":4.5,"valid/elbo":null}"#;
    assert!(jsonl.ends_with(&format!("{end}\n")), "{jsonl}");
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].ends_with("learning_rate,skipped_steps,valid/bits_per_dim,valid/elbo"));
    assert!(lines[1].ends_with("0.001,2,4.5,NaN"), "{csv}");
    let read = read_rows(&folder.path().join(METRICS_JSONL)).unwrap();
    assert_eq!(read[0].optional.valid_bits_per_dim, Some(4.5));
    assert!(read[0].optional.valid_elbo.is_some_and(f64::is_nan));
    assert_eq!(read[0].optional.train_objective, None);
}

#[test]
fn rows_read_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = MetricsWriter::open(folder.path(), None).unwrap();
    let rows: Vec<EpochRow> = (1..=3).map(row).collect();
    for row in &rows {
        writer.append(row).unwrap();
    }
    assert_eq!(read_rows(&folder.path().join(METRICS_JSONL)).unwrap(), rows);
}

#[test]
fn numbers_that_are_not_finite_become_null_and_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = MetricsWriter::open(folder.path(), None).unwrap();
    let mut wild = row(1);
    wild.train.loss = f64::NAN;
    wild.train.kl = f64::INFINITY;
    wild.valid.kl = f64::NEG_INFINITY;
    writer.append(&wild).unwrap();
    let [jsonl, csv] = contents(folder.path());
    assert!(
        jsonl.contains(r#""train/loss":null"#) && jsonl.contains(r#""valid/kl":null"#),
        "{jsonl}"
    );
    assert!(
        csv.contains("\n1,NaN,1800.0,0.30000000000000004,inf,"),
        "{csv}"
    );
    assert!(csv.contains(",-inf,"), "{csv}");
    let read = read_rows(&folder.path().join(METRICS_JSONL)).unwrap();
    assert!(read[0].train.loss.is_nan() && read[0].train.kl.is_nan());
    assert_eq!(read[0].valid.loss, 6.3e8);
}

#[test]
fn resuming_cuts_to_the_recorded_lengths_and_continues_the_same_bytes() {
    let (whole, resumed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut writer = MetricsWriter::open(whole.path(), None).unwrap();
    for epoch in 1..=3 {
        writer.append(&row(epoch)).unwrap();
    }

    let mut writer = MetricsWriter::open(resumed.path(), None).unwrap();
    let at_start = writer.lengths();
    let recorded = writer.append(&row(1)).unwrap();
    assert_eq!(recorded, writer.lengths());
    writer.append(&row(99)).unwrap();
    // Killed in the middle of a row.
    let mut jsonl = OpenOptions::new()
        .append(true)
        .open(resumed.path().join(METRICS_JSONL))
        .unwrap();
    jsonl.write_all(b"{\"epo").unwrap();
    let mut writer = MetricsWriter::open(resumed.path(), Some(recorded)).unwrap();
    for epoch in 2..=3 {
        writer.append(&row(epoch)).unwrap();
    }
    assert_eq!(contents(resumed.path()), contents(whole.path()));

    let mut writer = MetricsWriter::open(resumed.path(), Some(at_start)).unwrap();
    for epoch in 1..=3 {
        writer.append(&row(epoch)).unwrap();
    }
    assert_eq!(contents(resumed.path()), contents(whole.path()));
}

#[test]
fn a_file_that_an_older_program_began_keeps_its_columns() {
    let folder = tempfile::tempdir().unwrap();
    let header = "epoch,valid/loss,learning_rate,another,skipped_steps\n";
    let old = format!("{header}1,1.0,0.001,3.0,0\n");
    fs::write(folder.path().join(METRICS_CSV), &old).unwrap();
    let line = row(1)
        .jsonl_line()
        .replace("\"last_learning_rate\":0.001,", "");
    fs::write(folder.path().join(METRICS_JSONL), &line).unwrap();
    let keep = MetricsLengths {
        jsonl: line.len() as u64,
        csv: old.len() as u64,
    };
    let mut writer = MetricsWriter::open(folder.path(), Some(keep)).unwrap();
    writer.append(&row(2)).unwrap();
    let [_, csv] = contents(folder.path());
    assert_eq!(csv, format!("{old}2,630000000.0,0.001,NaN,2\n"));
    let rows = read_rows(&folder.path().join(METRICS_JSONL)).unwrap();
    assert_eq!(rows, [row(1), row(2)]);
}

#[test]
fn lost_rows_are_an_error_and_nothing_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = MetricsWriter::open(folder.path(), None).unwrap();
    let recorded = writer.append(&row(1)).unwrap();
    let before = contents(folder.path());
    for keep in [
        MetricsLengths {
            jsonl: recorded.jsonl + 1,
            ..recorded
        },
        MetricsLengths {
            jsonl: recorded.jsonl - 1,
            ..recorded
        },
    ] {
        let error = MetricsWriter::open(folder.path(), Some(keep)).unwrap_err();
        assert!(matches!(error, MetricsError::Shortened { .. }), "{error}");
        assert_eq!(contents(folder.path()), before);
    }
    fs::remove_file(folder.path().join(METRICS_CSV)).unwrap();
    let message = MetricsWriter::open(folder.path(), Some(recorded))
        .unwrap_err()
        .to_string();
    assert!(message.contains(METRICS_CSV), "{message}");
}

#[test]
fn an_unfinished_last_line_is_left_out_and_a_broken_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(METRICS_JSONL);
    let good = row(1).jsonl_line();
    fs::write(&path, format!("{good}{}", &good[..20])).unwrap();
    assert_eq!(read_rows(&path).unwrap(), [row(1)]);
    fs::write(&path, "").unwrap();
    assert_eq!(read_rows(&path).unwrap(), []);
    fs::write(
        &path,
        format!("{good}{}", good.replace("train/kl", "train/k")),
    )
    .unwrap();
    let message = read_rows(&path).unwrap_err().to_string();
    assert!(
        message.contains("line 2") && message.contains("`train/kl` is missing"),
        "{message}"
    );
    fs::write(&path, "[]\n").unwrap();
    assert!(matches!(
        read_rows(&path).unwrap_err(),
        MetricsError::Malformed { line: 1, .. }
    ));
}
