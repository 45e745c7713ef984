//! Ranks that are threads of one process, for tests.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::{Message, Ranks, RanksError, Spent, Transport};

const TIMEOUT: Duration = Duration::from_secs(60);

enum Sent {
    Message(Message),
    Failed(u8),
}

/// One of the threads.
struct Thread {
    rank: usize,
    /// To each of the others; none to itself.
    to: Vec<Option<Sender<Sent>>>,
    from: Vec<Option<Receiver<Sent>>>,
}

/// Runs `work` on so many ranks at the same time, and returns what each of them gives.
pub(crate) fn on_ranks<T: Send>(size: usize, work: impl Fn(&Ranks) -> T + Sync) -> Vec<T> {
    let mut threads: Vec<Thread> = (0..size)
        .map(|rank| Thread {
            rank,
            to: (0..size).map(|_| None).collect(),
            from: (0..size).map(|_| None).collect(),
        })
        .collect();
    for from in 0..size {
        for to in 0..size {
            if from != to {
                let (sender, receiver) = channel();
                threads[from].to[to] = Some(sender);
                threads[to].from[from] = Some(receiver);
            }
        }
    }
    let work = &work;
    std::thread::scope(|scope| {
        let started: Vec<_> = threads
            .into_iter()
            .map(|thread| {
                let ranks = if size == 1 {
                    Ranks::alone()
                } else {
                    Ranks::over(Box::new(thread))
                };
                scope.spawn(move || work(&ranks))
            })
            .collect();
        let ended = started.into_iter().map(|thread| thread.join());
        ended
            .map(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

impl Transport for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.to.len()
    }

    fn exchange(&mut self, other: usize, message: Message) -> Result<Message, RanksError> {
        let (rank, size) = (other, self.size());
        if let Some(to) = &self.to[other] {
            // A thread that has ended shows when it is waited for.
            let _ = to.send(Sent::Message(message));
        }
        let from = self.from[other].as_ref().expect("no rank talks to itself");
        match from.recv_timeout(TIMEOUT) {
            Ok(Sent::Message(message)) => Ok(message),
            Ok(Sent::Failed(code)) => Err(RanksError::Ended { rank, size, code }),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let seconds = TIMEOUT.as_secs();
                Err(RanksError::Lost {
                    rank,
                    size,
                    seconds,
                })
            }
        }
    }

    fn watch(&mut self) -> Result<(), RanksError> {
        Ok(())
    }

    fn fail(&mut self, code: u8) {
        for to in self.to.iter().flatten() {
            let _ = to.send(Sent::Failed(code));
        }
    }

    fn hears_of_end(&mut self, _: Duration) -> bool {
        false
    }

    fn take_spent(&mut self) -> Spent {
        Spent::default()
    }

    fn end(&self) {}

    fn abort(&self, _: u8) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_that_fails_or_ends_is_noticed_by_those_that_wait_for_it() {
        let found = on_ranks(2, |ranks| {
            if ranks.is_first() {
                ranks.fail(21);
                return Ok(Message::default());
            }
            ranks.broadcast(Message::default())
        });
        let ended = RanksError::Ended {
            rank: 0,
            size: 2,
            code: 21,
        };
        assert_eq!(found[1], Err(ended.clone()));
        assert_eq!(ended.exit_code(), 21);

        let found = on_ranks(2, |ranks| {
            if ranks.is_first() {
                return Ok(Message::default());
            }
            ranks.broadcast(Message::default())
        });
        let lost = found[1].clone().expect_err("rank 0 is gone");
        assert_eq!(lost.exit_code(), 33);
    }
}
