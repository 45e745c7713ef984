//! What each mode writes where.

use std::path::Path;
use std::sync::{Arc, Mutex};

use run_files::metrics::{EpochRow, Terms};
use run_files::settings::{Settings, Validation};
use serde_json::Value;

use super::*;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

/// 20 steps of 25 images in 5 seconds.
const RATE: Option<StepRate> = Some(StepRate {
    images_per_second: 100.0,
    seconds_per_step: 0.25,
});

fn row(epoch: u32) -> EpochRow {
    let terms = |loss| Terms {
        loss,
        cross_entropy: loss - 40.0,
        excess: 120.0,
        kl: 33.0,
        l2: 7.0,
    };
    EpochRow {
        epoch,
        train: terms(1834.256),
        valid: terms(1840.0),
        learning_rate: 0.001,
        last_learning_rate: 0.001,
        skipped_steps: 0,
        optional: Default::default(),
    }
}

/// Every event once: two epochs, one notice, the end.
fn report(progress: &mut Progress) {
    let settings = Settings::default();
    progress.run_started(&RunStart {
        settings: &settings,
        run_dir: Path::new("runs/one"),
        train_images: 2000,
        valid_images: 500,
        parameters: 26_815_683,
        first_epoch: 1,
        is_over: false,
    });
    for epoch in 1..=2 {
        progress.step(&StepProgress {
            epoch,
            epochs: 1000,
            step: 20,
            steps: 80,
            rate: RATE,
            seconds: 5.0,
            terms: row(epoch).train,
        });
        progress.epoch_ended(&EpochEnd {
            row: row(epoch),
            epochs: 1000,
            seconds: 25.0,
            images_per_second: 100.0,
            is_best: epoch == 1,
            next_learning_rate: if epoch == 1 { 0.001 } else { 0.0005 },
        });
    }
    progress.notice("the loss is odd");
    progress.finished(&Finish {
        reason: StopReason::EarlyStopping,
        best: row(1),
        last: row(2),
        test: row(1).valid,
        seconds: 50.0,
        run_dir: Path::new("runs/one"),
        pictures: &[
            "runs/one/samples/final-10x10.png".into(),
            "runs/one/loss-curves.svg".into(),
        ],
    });
}

fn run(mode: ProgressMode) -> [String; 2] {
    let (stdout, stderr) = (Captured::default(), Captured::default());
    report(&mut Progress::with_writers(
        mode,
        Box::new(stdout.clone()),
        Box::new(stderr.clone()),
    ));
    [stdout.text(), stderr.text()]
}

#[test]
fn a_log_has_one_line_an_epoch_and_a_table_and_no_escape_codes() {
    let [stdout, stderr] = run(ProgressMode::Plain);
    assert_eq!(stderr, "the loss is odd\n");
    assert_eq!(
        stdout,
        "\
training: no preset, so the post's values where nothing else is given; depth 100, width 1, latent 256, 26,815,683 \
parameters; 2,000 training and 500 validation images, batch 25; at most 1000 epochs, seed 1, device flex; run folder runs/one
epoch 1/1000  step 20/80  100 images/s  0:15 left, run 5:33:15  loss 1834.26 = cross-entropy 1794.26 (excess 120.00) + kl \
33.00 + l2 7.00
epoch    1/1000  train loss 1834.26 (excess 120.00, kl 33.00, l2 7.00)  valid loss 1840.00 (excess 120.00, kl 33.00, \
l2 7.00)  100 images/s  0:25  best
epoch 2/1000  step 20/80  100 images/s  0:15 left, run 6:56:05  loss 1834.26 = cross-entropy 1794.26 (excess 120.00) + kl \
33.00 + l2 7.00
epoch    2/1000  train loss 1834.26 (excess 120.00, kl 33.00, l2 7.00)  valid loss 1840.00 (excess 120.00, kl 33.00, \
l2 7.00)  100 images/s  0:25  learning rate 1.00e-3 -> 5.00e-4

nats an image    train, last   valid, last   train, best   valid, best    test, best
                     epoch 2       epoch 2       epoch 1       epoch 1       epoch 1
loss                 1834.26       1840.00       1834.26       1840.00       1840.00
cross-entropy        1794.26       1800.00       1794.26       1800.00       1800.00
excess                120.00        120.00        120.00        120.00        120.00
kl                     33.00         33.00         33.00         33.00         33.00
l2                      7.00          7.00          7.00          7.00          7.00

ended after epoch 2, 0:50: the validation loss stopped improving
run folder  runs/one
picture     runs/one/samples/final-10x10.png
picture     runs/one/loss-curves.svg
next        cargo xtask report --run-dir runs/one
            cargo xtask sample --run-dir runs/one --out samples.png
"
    );
}

#[test]
fn programs_get_one_object_an_event_and_nothing_else() {
    let [stdout, stderr] = run(ProgressMode::Json);
    assert_eq!(stderr, "");
    let events: Vec<Value> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<&str> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "run_start",
            "step",
            "epoch",
            "step",
            "epoch",
            "notice",
            "finish"
        ]
    );
    assert_eq!(events[0]["settings"]["depth"], 100);
    assert_eq!(events[1]["images_per_second"], 100.0);
    assert_eq!(events[4]["valid/loss"], 1840.0);
    assert_eq!(events[4]["next_learning_rate"], 0.0005);
    assert_eq!(events[6]["reason"], "early-stopping");
    assert_eq!(events[6]["best"]["epoch"], 1);
    assert_eq!(events[6]["pictures"][1], "runs/one/loss-curves.svg");
}

/// Other programs read these lines: keys, their order and the form of numbers stay.
#[test]
fn events_are_written_as_they_were() {
    let [stdout, _] = run(ProgressMode::Json);
    let lines: Vec<&str> = stdout.lines().collect();
    let start: serde_json::Map<String, Value> = serde_json::from_str(lines[0]).unwrap();
    let keys: Vec<&String> = start.keys().collect();
    assert_eq!(
        keys,
        [
            "event",
            "settings",
            "run_dir",
            "train_images",
            "valid_images",
            "parameters",
            "first_epoch",
            "is_over"
        ]
    );
    assert_eq!(
        [lines[1], lines[2], lines[5], lines[6]],
        [
            concat!(
                r#"{"event":"step","epoch":1,"epochs":1000,"step":20,"steps":80,"images_per_second":100.0,"loss":1834.256,"#,
                r#""cross_entropy":1794.256,"excess":120.0,"kl":33.0,"l2":7.0}"#,
            ),
            concat!(
                r#"{"event":"epoch","epoch":1,"train/loss":1834.256,"train/cross_entropy":1794.256,"train/excess":120.0,"#,
                r#""train/kl":33.0,"train/l2":7.0,"valid/loss":1840.0,"valid/cross_entropy":1800.0,"valid/excess":120.0,"#,
                r#""valid/kl":33.0,"valid/l2":7.0,"learning_rate":0.001,"last_learning_rate":0.001,"skipped_steps":0,"#,
                r#""seconds":25.0,"images_per_second":100.0,"is_best":true,"next_learning_rate":0.001}"#,
            ),
            r#"{"event":"notice","text":"the loss is odd"}"#,
            concat!(
                r#"{"event":"finish","reason":"early-stopping","seconds":50.0,"best":{"epoch":1,"train/loss":1834.256,"#,
                r#""train/cross_entropy":1794.256,"train/excess":120.0,"train/kl":33.0,"train/l2":7.0,"valid/loss":1840.0,"#,
                r#""valid/cross_entropy":1800.0,"valid/excess":120.0,"valid/kl":33.0,"valid/l2":7.0,"learning_rate":0.001,"#,
                r#""last_learning_rate":0.001,"skipped_steps":0},"last":{"epoch":2,"train/loss":1834.256,"#,
                r#""train/cross_entropy":1794.256,"train/excess":120.0,"train/kl":33.0,"train/l2":7.0,"valid/loss":1840.0,"#,
                r#""valid/cross_entropy":1800.0,"valid/excess":120.0,"valid/kl":33.0,"valid/l2":7.0,"learning_rate":0.001,"#,
                r#""last_learning_rate":0.001,"skipped_steps":0},"test":{"loss":1840.0,"cross_entropy":1800.0,"excess":120.0,"#,
                r#""kl":33.0,"l2":7.0},"run_dir":"runs/one","pictures":["runs/one/samples/final-10x10.png","#,
                r#""runs/one/loss-curves.svg"]}"#,
            ),
        ]
    );
}

#[test]
fn the_bar_tells_terms_rate_and_time_left() {
    let step = StepProgress {
        epoch: 2,
        epochs: 10,
        step: 20,
        steps: 80,
        rate: RATE,
        seconds: 5.0,
        terms: row(1).train,
    };
    assert_eq!(
        text::step(&step, Some(25.0)),
        "epoch 2/10  step 20/80  100 images/s  0:15 left, run 3:35"
    );
    assert_eq!(
        text::terms(&step.terms),
        "loss 1834.26 = cross-entropy 1794.26 (excess 120.00) + kl 33.00 + l2 7.00"
    );
    let at_once = text::step(
        &StepProgress {
            step: 0,
            rate: None,
            seconds: 0.0,
            ..step
        },
        None,
    );
    assert!(!at_once.contains("left"), "{at_once}");
}

#[test]
fn closed_pipes_do_not_stop_a_run() {
    for mode in [
        ProgressMode::Terminal,
        ProgressMode::Plain,
        ProgressMode::Json,
    ] {
        report(&mut Progress::with_writers(
            mode,
            Box::new(Closed),
            Box::new(Closed),
        ));
    }
}

#[test]
fn steps_are_due_at_intervals_and_at_the_start_of_an_epoch() {
    let step = |seconds| StepProgress {
        epoch: 1,
        epochs: 2,
        step: 1,
        steps: 9,
        rate: None,
        seconds,
        terms: Terms::default(),
    };
    let progress = |mode| Progress::with_writers(mode, Box::new(io::sink()), Box::new(io::sink()));
    let mut json = progress(ProgressMode::Json);
    assert!(json.step_due(0.0));
    json.step(&step(0.0));
    assert!(!json.step_due(0.99));
    assert!(json.step_due(1.0));
    json.step(&step(7.0));
    assert!(json.step_due(0.1), "a new epoch began");
    let mut terminal = progress(ProgressMode::Terminal);
    terminal.step(&step(0.0));
    assert!(!terminal.step_due(0.05) && terminal.step_due(0.1));
    assert!(!progress(ProgressMode::Plain).step_due(100.0));
}

#[test]
fn the_mode_follows_flag_variable_and_terminal() {
    let mode = |json, at_terminal, variable: &'static str, value: &'static str| {
        ProgressMode::choose(json, at_terminal, &|name| {
            (name == variable).then(|| value.to_owned())
        })
    };
    assert_eq!(mode(false, true, "", ""), ProgressMode::Terminal);
    assert_eq!(mode(false, true, "CMDLINE", ""), ProgressMode::Terminal);
    assert_eq!(mode(false, true, "CMDLINE", "1"), ProgressMode::Plain);
    assert_eq!(mode(false, true, "TERM", "dumb"), ProgressMode::Plain);
    assert_eq!(mode(false, false, "", ""), ProgressMode::Plain);
    assert_eq!(mode(true, true, "CMDLINE", "1"), ProgressMode::Json);
}

#[test]
fn a_run_with_an_average_of_its_weights_shows_both_scores() {
    let mut averaged = row(1);
    let of_average = text::epoch(&EpochEnd {
        row: averaged,
        epochs: 2,
        seconds: 25.0,
        images_per_second: 100.0,
        is_best: false,
        next_learning_rate: 0.001,
    });
    assert!(!of_average.contains("average"), "{of_average}");
    averaged.optional.valid_loss_without_average = Some(1911.25);
    let both = text::epoch(&EpochEnd {
        row: averaged,
        epochs: 2,
        seconds: 25.0,
        images_per_second: 100.0,
        is_best: false,
        next_learning_rate: 0.001,
    });
    assert!(both.contains("without the average 1911.25"), "{both}");
}

#[test]
fn a_log_probability_without_a_bound_has_neither_bits_nor_a_floor() {
    let mut unbound = row(1);
    (unbound.train.excess, unbound.valid.excess) = (f64::NAN, f64::NAN);
    let end = EpochEnd {
        row: unbound,
        epochs: 2,
        seconds: 25.0,
        images_per_second: 100.0,
        is_best: false,
        next_learning_rate: 0.001,
    };
    let line = text::epoch(&end);
    assert!(line.contains("(-log p(x | z) 17"), "{line}");
    let lines = text::finish(&Finish {
        reason: StopReason::EpochLimit,
        best: unbound,
        last: unbound,
        test: unbound.valid,
        seconds: 50.0,
        run_dir: Path::new("runs/one"),
        pictures: &[],
    })
    .join("\n");
    assert!(lines.contains("-log p(x | z)"), "{lines}");
    for text in [line, lines] {
        for word in ["NaN", "not finite", "excess", "bits"] {
            assert!(!text.contains(word), "{text}");
        }
    }
}

#[test]
fn a_run_that_is_validated_on_the_test_set_says_so_when_it_begins() {
    for (validation, told) in [(Validation::HeldOut, false), (Validation::Test, true)] {
        let (stdout, settings) = (
            Captured::default(),
            Settings {
                validation,
                ..Settings::default()
            },
        );
        let outputs = (Box::new(stdout.clone()), Box::new(Captured::default()));
        Progress::with_writers(ProgressMode::Plain, outputs.0, outputs.1).run_started(&RunStart {
            settings: &settings,
            run_dir: Path::new("runs/one"),
            train_images: 2000,
            valid_images: 500,
            parameters: 10,
            first_epoch: 1,
            is_over: false,
        });
        assert_eq!(
            stdout.text().contains("the test set"),
            told,
            "{validation:?}"
        );
    }
}
