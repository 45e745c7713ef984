//! The memory of a run's steps, measured: this program takes steps of two sizes, each in a process of its own, because the most
//! memory that a process has held never falls.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::lifeline::LIFELINE;
use crate::process::own_program::this_program;
use run_files::settings::Settings;

/// Images of the embedded sample, from which the steps are taken, that two micro-batches have at most.
const MOST: usize = 1000;
/// Processes that are measured for each number of images, and for how long at most another one is begun: the first few for longer, so that a busy
/// machine does not draw its line through two single peaks.
const PROCESSES: usize = 6;
const REPEATING: Duration = Duration::from_secs(3);
const FIRST: usize = 3;
const REPEATING_FIRST: Duration = Duration::from_secs(15);

/// The peak memory of a process that trains, as a straight line over the images of a micro-batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MeasuredMemory {
    /// Bytes whatever the images: the program, the weights, their gradients and moments.
    constant: f64,
    /// Bytes an image.
    per_image: f64,
}

impl MeasuredMemory {
    /// Measures steps of two micro-batches with each of these two numbers of images; none where such a step fails, or where the
    /// system does not say how much memory a process held.
    pub(crate) fn of_steps(settings: &Settings, images: [usize; 2]) -> Option<Self> {
        let [first, second] = images.map(|images| peak_bytes(settings, images.min(MOST)));
        Some(Self::through(
            (images[0].min(MOST), first?),
            (images[1].min(MOST), second?),
        ))
    }

    /// The line through two points, each images and bytes.
    pub(crate) fn through(first: (usize, u64), second: (usize, u64)) -> Self {
        let [(x, y), (to_x, to_y)] = [first, second].map(|(x, y)| (x as f64, y as f64));
        // More images never need less memory; what looks so is noise.
        let per_image = ((to_y - y) / (to_x - x)).max(0.0);
        Self {
            constant: y - per_image * x,
            per_image,
        }
    }

    /// What a process needs with so many images at a time, in bytes.
    pub(crate) fn bytes(&self, images: usize) -> u64 {
        (self.constant + self.per_image * images as f64).ceil() as u64
    }
}

/// The largest peak of a few such processes: peaks scatter by some megabytes with what each thread happens to hold, which matters to
/// models whose processes are short. A long one is started once.
fn peak_bytes(settings: &Settings, images: usize) -> Option<u64> {
    let began = Instant::now();
    let mut largest = peak_of_process(settings, images)?;
    for done in 1..PROCESSES {
        let limit = if done < FIRST {
            REPEATING_FIRST
        } else {
            REPEATING
        };
        if began.elapsed() > limit {
            break;
        }
        largest = largest.max(peak_of_process(settings, images)?);
    }
    Some(largest)
}

/// The most memory that a process holds in two steps, each of two micro-batches of `images`.
fn peak_of_process(settings: &Settings, images: usize) -> Option<u64> {
    let settings = Settings {
        device: settings.device.main().into(),
        batch_size: 2 * images,
        micro_batch_size: Some(images),
        shards: 1,
        ..settings.clone()
    };
    // The second step is the first that has moments of the gradients beside them.
    let mut command = this_program();
    command
        .args(["bench-step", "--json", "--warmup", "1", "--steps", "1"])
        .args(["--settings", &settings.to_json()]);
    let printed: Value = serde_json::from_slice(&printed(command)?).ok()?;
    printed["peak_bytes"].as_u64()
}

/// What a process prints that ends well; it ends with this one.
fn printed(mut command: Command) -> Option<Vec<u8>> {
    command
        .env(LIFELINE, "stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    // Closed by the system where this process ends; waiting for the output would close it now.
    let _lifeline = child.stdin.take();
    let output = child.wait_with_output().ok()?;
    output.status.success().then_some(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_through_both_points_and_never_falls() {
        let line = MeasuredMemory::through((8, 1_800), (16, 2_600));
        assert_eq!(
            [8, 16, 64].map(|images| line.bytes(images)),
            [1_800, 2_600, 7_400]
        );
        let flat = MeasuredMemory::through((8, 1_800), (16, 1_700));
        assert_eq!(flat.bytes(64), 1_800);
    }
}
