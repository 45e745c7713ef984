//! A line in a log while nothing else has been written for a while: one step, one sheet of pictures or one scoring may take
//! longer than people wait before they take a run for dead.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// What a run is doing, and since when it has said nothing. The lines end when this is dropped.
pub(super) struct Heartbeat(Arc<Mutex<Silence>>);

struct Silence {
    since: Instant,
    place: String,
}

impl Heartbeat {
    /// Writes a line to `writer` after each `interval` without another one.
    pub(super) fn start(interval: Duration, writer: impl Write + Send + 'static) -> Self {
        let silence = Arc::new(Mutex::new(Silence {
            since: Instant::now(),
            place: "preparing".to_owned(),
        }));
        let observed = Arc::downgrade(&silence);
        std::thread::spawn(move || beat(&observed, interval, writer));
        Self(silence)
    }

    /// A line was written.
    pub(super) fn line_written(&self) {
        self.lock().since = Instant::now();
    }

    /// What the run is doing from now on.
    pub(super) fn now_at(&self, place: String) {
        self.lock().place = place;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Silence> {
        // The two values are whole whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn beat(observed: &Weak<Mutex<Silence>>, interval: Duration, mut writer: impl Write) {
    loop {
        let Some(silence) = observed.upgrade() else {
            return;
        };
        let mut silence = silence.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = silence.since.elapsed();
        let left = interval.saturating_sub(silent);
        if left.is_zero() {
            // Nobody may be reading; the run goes on all the same.
            let _ = writer
                .write_all(format!("still at work: {}\n", silence.place).as_bytes())
                .and_then(|()| writer.flush());
            silence.since = Instant::now();
        }
        drop(silence);
        // Not for long: the end of the run is to end this thread.
        let pause = if left.is_zero() { interval } else { left };
        std::thread::sleep(pause.clamp(Duration::from_millis(10), Duration::from_millis(500)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn lines(&self) -> Vec<String> {
            let bytes = self.0.lock().expect("no panic").clone();
            let text = String::from_utf8(bytes).expect("text");
            text.lines().map(str::to_owned).collect()
        }
    }

    #[test]
    fn silence_is_broken_with_the_place_and_ends_with_the_run() {
        let written = Written::default();
        let interval = Duration::from_millis(30);
        let heartbeat = Heartbeat::start(interval, written.clone());
        heartbeat.now_at("epoch 1/9  step 4/5".to_owned());
        let began = Instant::now();
        while written.lines().len() < 3 && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(began.elapsed() >= 2 * interval, "not more often than that");
        drop(heartbeat);
        std::thread::sleep(3 * interval);
        let lines = written.lines();
        std::thread::sleep(5 * interval);
        assert_eq!(written.lines(), lines, "none after the end");
        assert!(lines.len() >= 3, "{lines:?}");
        let last = lines.last().map(String::as_str);
        assert_eq!(last, Some("still at work: epoch 1/9  step 4/5"));
    }
}
