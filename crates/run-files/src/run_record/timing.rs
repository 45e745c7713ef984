//! How fast a run trained, from the lines of `timing.jsonl`.
//!
//! A run that was killed and resumed has several lines for one epoch: some of an epoch that was trained twice, some of a
//! part of one. So nothing is summed over epochs. The lines give the rate, images over seconds, and the rate gives the
//! time that the run takes without interruption.

use serde_json::Value;

/// How fast a run trained, evaluation and pictures excluded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunTiming {
    /// Seconds of training that all epochs take at `images_per_second`.
    pub train_seconds: f64,
    /// Seconds of training an epoch.
    pub seconds_per_epoch: f64,
    /// Training images a second of training.
    pub images_per_second: f64,
    /// Most memory that a process of the run held, in bytes, where the system told.
    pub peak_memory_bytes: Option<u64>,
}

impl RunTiming {
    /// Sums up the text of a `timing.jsonl`.
    ///
    /// Lines that are no JSON object with a positive `train_seconds` are passed over: half a line of a killed process,
    /// or an event without training. `train_steps` says how many steps a line stands for; without it, a whole epoch.
    /// None where nothing is left.
    /// Where a line has `first_step_seconds`, that step and its time are left out: kernels were compiled in it.
    pub(super) fn from_lines(
        text: &str,
        train_images: u64,
        batch_size: usize,
        epochs: u32,
    ) -> Option<Self> {
        let epoch_images = images_per_epoch(train_images, batch_size as u64);
        let (mut images, mut seconds) = (0.0, 0.0);
        let mut peak_memory_bytes = None;
        for line in text.lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            peak_memory_bytes = peak_memory_bytes.max(line["peak_memory_bytes"].as_u64());
            let Some(train_seconds) = line["train_seconds"]
                .as_f64()
                .filter(|seconds| *seconds > 0.0)
            else {
                continue;
            };
            let of_steps = line["train_steps"]
                .as_u64()
                .map(|steps| steps.saturating_mul(batch_size as u64).min(epoch_images));
            let of_line = of_steps.unwrap_or(epoch_images);
            let (left_out, seconds_left_out) = match line["first_step_seconds"].as_f64() {
                Some(first) => (of_line.min(batch_size as u64), first.min(train_seconds)),
                None => (0, 0.0),
            };
            images += (of_line - left_out) as f64;
            seconds += train_seconds - seconds_left_out;
        }
        if images == 0.0 || seconds == 0.0 {
            return None;
        }
        let images_per_second = images / seconds;
        let seconds_per_epoch = epoch_images as f64 / images_per_second;
        Some(Self {
            train_seconds: f64::from(epochs) * seconds_per_epoch,
            seconds_per_epoch,
            images_per_second,
            peak_memory_bytes,
        })
    }
}

/// Images that an epoch trains on: a last short batch is left out unless it is the only one.
fn images_per_epoch(train_images: u64, batch_size: u64) -> u64 {
    let whole = train_images - train_images % batch_size.max(1);
    if whole > 0 { whole } else { train_images }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(text: &str) -> RunTiming {
        // 100 images are 4 steps of 25; 110 images are no more.
        RunTiming::from_lines(text, 110, 25, 3).unwrap()
    }

    const THREE_EPOCHS: &str = r#"{"epoch":1,"train_seconds":10.0,"valid_seconds":9.0,"images_per_second":10.0,"peak_memory_bytes":500}
{"epoch":2,"train_seconds":10.0,"peak_memory_bytes":700}
{"epoch":3,"train_seconds":10.0,"peak_memory_bytes":600}
"#;

    #[test]
    fn whole_epochs_count_all_their_images() {
        let expected = RunTiming {
            train_seconds: 30.0,
            seconds_per_epoch: 10.0,
            images_per_second: 10.0,
            peak_memory_bytes: Some(700),
        };
        assert_eq!(timing(THREE_EPOCHS), expected);
    }

    #[test]
    fn epochs_trained_twice_and_parts_of_epochs_do_no_harm() {
        let twice = format!("{THREE_EPOCHS}{THREE_EPOCHS}");
        assert_eq!(timing(&twice), timing(THREE_EPOCHS));
        // Killed after 3 of 4 steps of the second epoch, and again after 1.
        let lines = r#"{"epoch":1,"train_seconds":10.0,"train_steps":4}
{"epoch":2,"train_seconds":7.5,"train_steps":3}
{"epoch":2,"train_seconds":2.5,"train_steps":1}
{"epoch":3,"train_seconds":10.0,"train_steps":4}"#;
        assert_eq!(
            timing(lines),
            RunTiming {
                peak_memory_bytes: None,
                ..timing(THREE_EPOCHS)
            }
        );
    }

    #[test]
    fn a_first_step_that_compiled_kernels_counts_in_no_rate() {
        // 25 of 100 images and 60 of 67.5 seconds.
        let compiled = THREE_EPOCHS.replacen(
            "\"train_seconds\":10.0",
            "\"train_seconds\":67.5,\"train_steps\":4,\"first_step_seconds\":60.0",
            1,
        );
        assert_ne!(compiled, THREE_EPOCHS);
        assert_eq!(timing(&compiled), timing(THREE_EPOCHS));
        let alone = "{\"train_seconds\":60.0,\"train_steps\":1,\"first_step_seconds\":60.0}";
        assert_eq!(RunTiming::from_lines(alone, 110, 25, 3), None);
    }

    #[test]
    fn other_lines_half_lines_and_unknown_keys_are_passed_over() {
        let more = format!(
            "{{\"ep\n{{\"event\":\"resume\",\"peak_memory_bytes\":null}}\n[1]\n7\n\n{}{{\"epoch\":4,\"train_sec",
            THREE_EPOCHS.replace("\"epoch\"", "\"more\":[1],\"epoch\"")
        );
        assert_eq!(timing(&more), timing(THREE_EPOCHS));
    }

    #[test]
    fn a_file_without_training_has_no_rate() {
        for text in ["", "{\"epoch\":1}", "{\"epoch\":1,\"train_seconds\":0.0}"] {
            assert_eq!(RunTiming::from_lines(text, 100, 25, 1), None);
        }
    }

    #[test]
    fn a_short_batch_counts_only_where_it_is_the_only_one() {
        assert_eq!(images_per_epoch(110, 25), 100);
        assert_eq!(images_per_epoch(20, 25), 20);
        assert_eq!(images_per_epoch(50, 25), 50);
        let one = RunTiming::from_lines(
            "{\"epoch\":1,\"train_seconds\":2.0,\"train_steps\":1}",
            20,
            25,
            1,
        )
        .unwrap();
        assert_eq!(one.images_per_second, 10.0);
    }
}
