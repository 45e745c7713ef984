//! Asking a run to stop: it finishes its step, writes a checkpoint and ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
#[cfg(unix)]
use std::time::{Duration, Instant};

/// Within this time after a signal, more of them are the same wish: `timeout` sends one to its child and one to the child's group, `mpirun` its own
/// beside the terminal's.
#[cfg(unix)]
const ONE_WISH: Duration = Duration::from_millis(300);

/// What asked a run to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: the system shuts down, or a scheduler wants the machine.
    Terminate,
    /// SIGHUP: the terminal was closed.
    Hangup,
    /// SIGUSR2: the one of these that Open MPI's `mpirun` passes on to the ranks.
    Relayed,
}

impl StopSignal {
    /// The signal with this number, if it is one of them.
    pub fn from_number(number: u8) -> Option<Self> {
        [
            Self::Interrupt,
            Self::Terminate,
            Self::Hangup,
            Self::Relayed,
        ]
        .into_iter()
        .find(|signal| signal.number() == number)
    }

    /// The signal's number.
    pub fn number(self) -> u8 {
        match self {
            Self::Interrupt => 2,
            Self::Terminate => 15,
            Self::Hangup => 1,
            #[cfg(unix)]
            Self::Relayed => signal_hook::consts::SIGUSR2 as u8,
            #[cfg(not(unix))]
            Self::Relayed => 12,
        }
    }

    /// The exit code of a run that it has stopped: all but Ctrl-C count as SIGTERM.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate | Self::Hangup | Self::Relayed => 143,
        }
    }

    /// Whether it ends the process at once, so long after the first signal of any kind.
    #[cfg(unix)]
    fn ends_at_once(self, after_the_first: Duration) -> bool {
        matches!(self, Self::Interrupt | Self::Terminate) && after_the_first > ONE_WISH
    }

    /// The signal's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::Hangup => "SIGHUP, a closed terminal,",
            Self::Relayed => "SIGUSR2",
        }
    }
}

/// A flag that a run looks at between steps, shared with whoever may set it.
#[derive(Clone, Debug, Default)]
pub struct StopRequest {
    signal: Arc<AtomicUsize>,
    checkpoint: Arc<AtomicBool>,
    #[cfg(test)]
    polls_left: Option<Arc<AtomicUsize>>,
}

impl StopRequest {
    /// Nobody has asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the end of the run.
    pub fn request(&self, signal: StopSignal) {
        // The first to ask is the one that is named.
        let _ = self.signal.compare_exchange(
            0,
            usize::from(signal.number()),
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
    }

    /// What has asked for the end of the run, if anything has.
    pub fn requested(&self) -> Option<StopSignal> {
        #[cfg(test)]
        if let Some(polls) = &self.polls_left {
            let left = polls.load(Ordering::SeqCst);
            if left == 0 {
                return Some(StopSignal::Terminate);
            }
            polls.store(left - 1, Ordering::SeqCst);
        }
        StopSignal::from_number(self.signal.load(Ordering::SeqCst) as u8)
    }

    /// Whether someone has asked for a checkpoint since the last look.
    pub fn takes_checkpoint(&self) -> bool {
        self.checkpoint.swap(false, Ordering::SeqCst)
    }

    /// A request that comes at the run's look number `polls`, from 0: a run looks before every step and every batch of
    /// an evaluation.
    #[cfg(test)]
    pub(crate) fn after_polls(polls: usize) -> Self {
        Self {
            polls_left: Some(Arc::new(AtomicUsize::new(polls))),
            ..Self::default()
        }
    }

    /// Lets SIGINT, SIGTERM, SIGHUP and SIGUSR2 ask for the end, and SIGINT or SIGTERM end the process at once, with code 130 or 143, where any of the four
    /// came more than 0.3 s before; and SIGUSR1, with which schedulers warn, ask for a checkpoint. SIGHUP never ends it at once: shell and kernel
    /// send one each where a terminal is closed. SIGUSR2 neither: launchers may pass it on twice. A SIGHUP that is ignored, as under `nohup`, stays ignored;
    /// SIGQUIT ends the process at once, as ever. A file-size limit becomes an error of the write that meets it, where it would kill the process.
    ///
    /// # Errors
    /// Where the system takes no handler.
    pub fn on_signals() -> std::io::Result<Self> {
        use signal_hook::consts::{SIGINT, SIGTERM};

        let request = Self::new();
        let mut signals = vec![
            (SIGINT, StopSignal::Interrupt),
            (SIGTERM, StopSignal::Terminate),
        ];
        #[cfg(unix)]
        if !ignores_hangup() {
            signals.push((signal_hook::consts::SIGHUP, StopSignal::Hangup));
        }
        #[cfg(unix)]
        signals.push((signal_hook::consts::SIGUSR2, StopSignal::Relayed));
        #[cfg(unix)]
        end_at_a_second_signal(signals.iter().map(|(number, _)| *number))?;
        #[cfg(not(unix))]
        let armed = Arc::new(AtomicBool::new(false));
        for (number, signal) in signals {
            #[cfg(not(unix))]
            {
                let code = i32::from(signal.exit_code());
                // In this order, the first signal finds the process not yet armed.
                signal_hook::flag::register_conditional_shutdown(number, code, armed.clone())?;
                signal_hook::flag::register(number, armed.clone())?;
            }
            signal_hook::flag::register_usize(
                number,
                request.signal.clone(),
                usize::from(signal.number()),
            )?;
        }
        #[cfg(unix)]
        {
            use signal_hook::consts::{SIGUSR1, SIGXFSZ};
            signal_hook::flag::register(SIGUSR1, request.checkpoint.clone())?;
            signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        }
        Ok(request)
    }
}

/// Starts the thread that ends the process at a signal that comes after another, whatever the other threads do.
#[cfg(unix)]
fn end_at_a_second_signal(numbers: impl Iterator<Item = i32>) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new(numbers)?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut first = None;
            for number in signals.forever() {
                let signal = u8::try_from(number).ok().and_then(StopSignal::from_number);
                let Some(signal) = signal else { continue };
                let first = *first.get_or_insert_with(Instant::now);
                if signal.ends_at_once(first.elapsed()) {
                    // Without what a process does at its end: another thread may be in the middle of anything.
                    signal_hook::low_level::exit(i32::from(signal.exit_code()));
                }
            }
        })?;
    Ok(())
}

/// Whether this process was started with SIGHUP ignored, where the system tells (Linux).
#[cfg(unix)]
fn ignores_hangup() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup_in(&status))
}

fn ignores_hangup_in(status: &str) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Signal number 1 is the lowest bit.
    mask.is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_seen_by_every_clone() {
        let request = StopRequest::new();
        let other = request.clone();
        assert_eq!(other.requested(), None);
        request.request(StopSignal::Interrupt);
        assert_eq!(other.requested(), Some(StopSignal::Interrupt));
    }

    #[test]
    fn an_ignored_hangup_is_told_by_its_bit() {
        assert!(ignores_hangup_in("SigBlk:\t0\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup_in("SigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup_in(""));
    }

    #[cfg(unix)]
    #[test]
    fn signals_that_come_together_and_hangups_are_one_wish() {
        let [together, later] = [1, 301].map(Duration::from_millis);
        for signal in [StopSignal::Interrupt, StopSignal::Terminate] {
            assert!(!signal.ends_at_once(together), "{signal:?}");
            assert!(signal.ends_at_once(later), "{signal:?}");
        }
        for signal in [StopSignal::Hangup, StopSignal::Relayed] {
            assert!(!signal.ends_at_once(later), "{signal:?}");
        }
    }

    #[test]
    fn a_checkpoint_is_taken_once_for_each_request() {
        let request = StopRequest::new();
        request.clone().checkpoint.store(true, Ordering::SeqCst);
        assert!(request.takes_checkpoint());
        assert!(!request.takes_checkpoint());
        assert_eq!(StopSignal::Hangup.exit_code(), 143);
        assert_eq!(StopSignal::Relayed.exit_code(), 143);
    }
}
