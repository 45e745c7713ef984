//! Asking a run to stop: it finishes its step, writes a checkpoint and ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What asked a run to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: the system shuts down, or a scheduler wants the machine.
    Terminate,
}

impl StopSignal {
    /// The signal's number.
    pub fn number(self) -> u8 {
        match self {
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }

    /// The signal's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}

/// A flag that a run looks at between steps, shared with whoever may set it.
#[derive(Clone, Debug, Default)]
pub struct StopRequest {
    signal: Arc<AtomicUsize>,
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
        match self.signal.load(Ordering::SeqCst) {
            2 => Some(StopSignal::Interrupt),
            15 => Some(StopSignal::Terminate),
            _ => None,
        }
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

    /// Lets SIGINT and SIGTERM ask for the end, and a second one of either end the process at once, with code 130 or
    /// 143. A file-size limit becomes an error of the write that meets it, where it would kill the process.
    ///
    /// # Errors
    /// Where the system takes no handler.
    pub fn on_signals() -> std::io::Result<Self> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        use std::sync::atomic::AtomicBool;

        let request = Self::new();
        let armed = Arc::new(AtomicBool::new(false));
        for (number, signal) in [
            (SIGINT, StopSignal::Interrupt),
            (SIGTERM, StopSignal::Terminate),
        ] {
            let code = 128 + i32::from(signal.number());
            // In this order, the first signal finds the process not yet armed.
            signal_hook::flag::register_conditional_shutdown(number, code, armed.clone())?;
            signal_hook::flag::register(number, armed.clone())?;
            signal_hook::flag::register_usize(
                number,
                request.signal.clone(),
                usize::from(signal.number()),
            )?;
        }
        #[cfg(unix)]
        signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default())?;
        Ok(request)
    }
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
}
