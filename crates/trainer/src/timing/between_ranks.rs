//! What a step spends on other ranks, and what one exchange between two of them takes.

use std::time::Instant;

use serde::Serialize;

use super::median::median;
use crate::ranks::{Message, Ranks, RanksError, Spent};

/// Empty messages whose median is the latency, and as many before them that do not count.
const MESSAGES: usize = 200;
/// Long messages whose median gives the bandwidth, after one that does not count.
const LONG_MESSAGES: usize = 9;
/// Float32 numbers of a long message: 32 MiB, more than a processor's cache holds.
const LENGTH: usize = 8 << 20;

/// Medians of what a step spends on other ranks, in seconds, and of exchanges apart from any step.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BetweenRanks {
    /// How many ranks there are.
    pub ranks: usize,
    /// The rest of the step.
    pub compute_seconds: f64,
    /// From when two ranks have met until each has what the other sent.
    pub communication_seconds: f64,
    /// Until the other has come to the same point.
    pub waiting_seconds: f64,
    /// Bytes that this rank sends.
    pub bytes_sent: u64,
    /// Of an exchange with the neighbour, while all other ranks exchange with theirs.
    pub exchange: ExchangeTiming,
}

/// An exchange between two ranks, by the messages that sums are made of: each sends and receives at the same time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ExchangeTiming {
    /// Seconds of an empty one.
    pub latency_seconds: f64,
    /// Bytes a second that each sends in a long one, the latency apart; none where a long one took no longer than an empty one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
}

impl BetweenRanks {
    /// Of steps that took so long as a whole and spent so much on other ranks; none of a process alone.
    pub(super) fn measured(
        ranks: &Ranks,
        wholes: &[f64],
        spent: &[Spent],
    ) -> Result<Option<Self>, RanksError> {
        if ranks.size() == 1 {
            return Ok(None);
        }
        let of =
            |seconds: fn(&Spent) -> f64| median(&spent.iter().map(seconds).collect::<Vec<_>>());
        let communicating = |spent: &Spent| spent.transfer.as_secs_f64();
        let waiting = |spent: &Spent| spent.waiting.as_secs_f64();
        let computing = wholes.iter().zip(spent);
        let computing =
            computing.map(|(whole, spent)| whole - communicating(spent) - waiting(spent));
        Ok(Some(Self {
            ranks: ranks.size(),
            compute_seconds: median(&computing.collect::<Vec<_>>()),
            communication_seconds: of(communicating),
            waiting_seconds: of(waiting),
            bytes_sent: spent.last().map_or(0, |spent| spent.bytes),
            exchange: ExchangeTiming::measured(ranks)?,
        }))
    }
}

impl ExchangeTiming {
    fn measured(ranks: &Ranks) -> Result<Self, RanksError> {
        let empty = Message::default();
        let seconds = exchange_seconds(ranks, &empty, 2 * MESSAGES)?;
        let latency_seconds = median(&seconds[MESSAGES..]);
        let long = Message {
            values: vec![1.0; LENGTH],
            ..Message::default()
        };
        let seconds = exchange_seconds(ranks, &long, 1 + LONG_MESSAGES)?;
        let transfer = median(&seconds[1..]) - latency_seconds;
        Ok(Self {
            latency_seconds,
            bytes_per_second: (transfer > 0.0).then(|| 4.0 * LENGTH as f64 / transfer),
        })
    }
}

/// Of so many exchanges with the neighbour, one after another.
fn exchange_seconds(
    ranks: &Ranks,
    message: &Message,
    count: usize,
) -> Result<Vec<f64>, RanksError> {
    let neighbour = ranks.rank() ^ 1;
    let mut seconds = Vec::with_capacity(count);
    for _ in 0..count {
        let message = message.clone();
        let began = Instant::now();
        ranks.exchange(neighbour, message)?;
        seconds.push(began.elapsed().as_secs_f64());
    }
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::threads::on_ranks;
    use std::time::Duration;

    #[test]
    fn exchanges_are_timed_between_neighbours_and_a_step_is_divided() {
        let second = |waiting, transfer| Spent {
            waiting: Duration::from_secs(waiting),
            transfer: Duration::from_secs(transfer),
            bytes: 12,
        };
        let spent = [second(1, 2), second(2, 2), second(1, 3)];
        let found = on_ranks(4, |ranks| {
            BetweenRanks::measured(ranks, &[9.0, 8.0, 7.0], &spent).expect("all are there")
        });
        for between in found {
            let between = between.expect("there are several");
            assert_eq!((between.ranks, between.bytes_sent), (4, 12));
            assert_eq!(between.compute_seconds, 4.0);
            assert_eq!(between.communication_seconds, 2.0);
            assert_eq!(between.waiting_seconds, 1.0);
            let exchange = between.exchange;
            // Between threads a message is handed over, so that a long one takes hardly longer than an empty one.
            assert!(
                (0.0..1.0).contains(&exchange.latency_seconds),
                "{exchange:?}"
            );
            assert!(
                exchange.bytes_per_second.is_none_or(|rate| rate > 1e6),
                "{exchange:?}"
            );
        }
        let alone = BetweenRanks::measured(&Ranks::alone(), &[1.0], &[Spent::default()]);
        assert!(alone.expect("nobody is missing").is_none());
    }
}
