//! Sums whose order does not depend on how many ranks, devices or passes they are computed by.
//!
//! A batch has shards `0 .. S`; their contributions are added in one binary tree: neighbours in pairs, pairs of pairs, and so on; where
//! the number is no power of two, the last and smaller subtree is added last. Whoever holds a contiguous group of shards that fills
//! a subtree adds those up by itself ([`TreeSum`]). Between ranks ([`sum`]) each addition is shared: at each level a rank sends one half of its
//! piece of the vector to its partner and adds the other half, and at the end the pieces go back the same way, so that no rank sends
//! more than twice the vector (recursive halving and doubling, Thakur, Rabenseifner and Gropp 2005). IEEE addition commutes, so it does
//! not matter which of two partners adds.

use run_files::metrics::BatchLoss;

use super::error::RanksError;
use super::requests::Requests;
use super::transport::{Message, Transport};

/// Adds up contributions that come in their order, in the tree's.
#[derive(Debug)]
pub(crate) struct TreeSum<T> {
    /// Complete subtrees from left to right, each with the logarithm of its size.
    subtrees: Vec<(u32, T)>,
}

impl<T> TreeSum<T> {
    /// Before the first contribution.
    pub(crate) fn new() -> Self {
        Self {
            subtrees: Vec::new(),
        }
    }

    /// Takes the next contribution.
    pub(crate) fn add(&mut self, value: T, sum: impl Fn(T, T) -> T) {
        let (mut level, mut value) = (0, value);
        while let Some((_, left)) = self.subtrees.pop_if(|(of_left, _)| *of_left == level) {
            value = sum(left, value);
            level += 1;
        }
        self.subtrees.push((level, value));
    }

    /// The sum; none where there was no contribution.
    pub(crate) fn finish(self, sum: impl Fn(T, T) -> T) -> Option<T> {
        let values = self.subtrees.into_iter().map(|(_, value)| value);
        values.rev().reduce(|right, left| sum(left, right))
    }
}

/// What a rank contributes to a sum over the ranks, or the sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Contribution {
    pub(crate) loss: BatchLoss,
    pub(crate) numbers: Vec<f64>,
    pub(crate) values: Vec<f32>,
}

/// The numbers before those of a contribution.
const HEAD: usize = 6;

/// The sum over all ranks, as [`Ranks::sum`](super::Ranks::sum) gives it.
pub(super) fn sum(
    transport: &mut dyn Transport,
    own: Option<Contribution>,
    length: usize,
    mut requests: Requests,
) -> Result<(Contribution, Requests), RanksError> {
    let (rank, levels) = (transport.rank(), transport.size().ilog2());
    // The piece of the vector that this rank is adding up.
    let mut piece = 0..length;
    let mut pieces = Vec::new();
    let mut own = own;
    for level in 0..levels {
        let partner = rank ^ (1 << level);
        let middle = piece.start + piece.len() / 2;
        let (lower, upper) = (piece.start..middle, middle..piece.end);
        pieces.push(piece.clone());
        let (kept, given) = if rank < partner {
            (lower, upper)
        } else {
            (upper, lower)
        };
        let local =
            |range: &std::ops::Range<usize>| range.start - piece.start..range.end - piece.start;
        let message = Message {
            numbers: numbers(own.as_ref(), requests),
            values: own
                .as_ref()
                .map_or_else(Vec::new, |own| own.values[local(&given)].to_vec()),
            text: String::new(),
        };
        let received = transport.exchange(partner, message)?;
        let (other, asked) = contribution(received);
        requests = requests.or(asked);
        if let Some(own) = &mut own {
            let kept = local(&kept);
            own.values.truncate(kept.end);
            own.values.drain(..kept.start);
        }
        own = match (own, other) {
            (Some(own), Some(other)) if rank < partner => Some(own.and(other)),
            (Some(own), Some(other)) => Some(other.and(own)),
            (own, other) => own.or(other),
        };
        piece = kept;
    }
    let mut own = own.unwrap_or_default();
    // The pieces go back, and grow together.
    for level in (0..levels).rev() {
        let partner = rank ^ (1 << level);
        let message = Message {
            numbers: Vec::new(),
            values: own.values.clone(),
            text: String::new(),
        };
        let received = transport.exchange(partner, message)?.values;
        own.values = if rank < partner {
            let mut lower = own.values;
            lower.extend_from_slice(&received);
            lower
        } else {
            let mut lower = received;
            lower.extend_from_slice(&own.values);
            lower
        };
        pieces.pop();
    }
    Ok((own, requests))
}

fn numbers(own: Option<&Contribution>, requests: Requests) -> Vec<f64> {
    let loss = own.map_or_else(BatchLoss::default, |own| own.loss);
    let head = [
        f64::from(u8::from(own.is_some())),
        f64::from(requests.stop),
        f64::from(u8::from(requests.checkpoint)),
        loss.cross_entropy,
        loss.kl,
        loss.l2,
    ];
    let own = own.map_or(&[][..], |own| &own.numbers);
    head.iter().chain(own).copied().collect()
}

fn contribution(message: Message) -> (Option<Contribution>, Requests) {
    let [is_there, stop, checkpoint] = [0, 1, 2].map(|index| {
        let number = message.numbers.get(index);
        number.map_or(0, |number| *number as u8)
    });
    let requests = Requests {
        stop,
        checkpoint: checkpoint == 1,
    };
    let contribution = (is_there == 1).then(|| Contribution {
        loss: BatchLoss {
            cross_entropy: message.numbers[3],
            kl: message.numbers[4],
            l2: message.numbers[5],
        },
        numbers: message.numbers[HEAD..].to_vec(),
        values: message.values,
    });
    (contribution, requests)
}

impl Contribution {
    /// The sum of two neighbours in the tree.
    pub(crate) fn and(mut self, right: Self) -> Self {
        self.loss.add(right.loss);
        let numbers = self.numbers.iter_mut().zip(right.numbers);
        numbers.for_each(|(left, right)| *left += right);
        let values = self.values.iter_mut().zip(right.values);
        values.for_each(|(left, right)| *left += right);
        self
    }
}

/// Rank 0's message, on every rank: from rank 0 to half the ranks, from both to a quarter each, and so on.
pub(super) fn broadcast(
    transport: &mut dyn Transport,
    message: Message,
) -> Result<Message, RanksError> {
    let (rank, size) = (transport.rank(), transport.size());
    let mut message = (rank == 0).then_some(message);
    let mut distance = size / 2;
    while distance > 0 {
        if rank.is_multiple_of(distance) {
            let partner = rank ^ distance;
            // One of the two has it; it gets an empty one back.
            let sent = message.clone().unwrap_or_default();
            let received = transport.exchange(partner, sent)?;
            message.get_or_insert(received);
        }
        distance /= 2;
    }
    Ok(message.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::threads::on_ranks;
    use super::*;

    /// By recursion on halves: the first the largest power of two that leaves something.
    fn tree(values: &[f32]) -> f32 {
        match values {
            [value] => *value,
            _ => {
                let half = values.len().next_power_of_two() / 2;
                let (left, right) = values.split_at(half);
                tree(left) + tree(right)
            }
        }
    }

    /// Sums of these depend on the order.
    fn values(seed: usize, count: usize) -> Vec<f32> {
        let value = |index: usize| {
            let mixed = (index * 2_654_435_761 + seed * 40_503) % 10_007;
            (mixed as f32 - 5_000.0) * 1.1_f32.powi((mixed % 97) as i32)
        };
        (0..count).map(value).collect()
    }

    #[test]
    fn contributions_are_added_in_the_tree_of_their_number() {
        assert_eq!(TreeSum::<f32>::new().finish(|a, b| a + b), None);
        let mut differ = 0;
        for count in 1..70 {
            let values = values(count, count);
            let mut sum = TreeSum::new();
            values
                .iter()
                .for_each(|value| sum.add(*value, |a, b| a + b));
            let found = sum.finish(|a, b| a + b).expect("a sum");
            assert_eq!(found.to_bits(), tree(&values).to_bits(), "{count}");
            differ += usize::from(found != values.iter().sum::<f32>());
        }
        assert!(differ > 30, "the order has to matter here");
    }

    #[test]
    fn any_number_of_ranks_adds_in_the_same_tree() {
        let length = 37;
        for shards in [8, 7, 5, 3, 1] {
            let of_shard: Vec<Vec<f32>> = (0..shards).map(|shard| values(shard, length)).collect();
            let expected: Vec<u32> = (0..length)
                .map(|at| {
                    tree(&of_shard.iter().map(|shard| shard[at]).collect::<Vec<_>>()).to_bits()
                })
                .collect();
            for ranks in [1, 2, 4, 8] {
                let slots = 8 / ranks;
                let found = on_ranks(ranks, |ranks| {
                    let mut sum = TreeSum::new();
                    let first = ranks.rank() * slots;
                    for own in of_shard.iter().skip(first).take(slots) {
                        let contribution = Contribution {
                            loss: BatchLoss::default(),
                            numbers: vec![f64::from(own[0])],
                            values: own.clone(),
                        };
                        sum.add(contribution, Contribution::and);
                    }
                    let own = sum.finish(Contribution::and);
                    // One rank alone is asked to stop, another for a checkpoint.
                    let asks = Requests {
                        stop: if ranks.rank() == ranks.size() - 1 {
                            15
                        } else {
                            0
                        },
                        checkpoint: ranks.is_first(),
                    };
                    ranks.sum(own, length, asks).expect("all are there")
                });
                let all = Requests {
                    stop: 15,
                    checkpoint: true,
                };
                for (sum, requests) in found {
                    let bits: Vec<u32> = sum.values.iter().map(|value| value.to_bits()).collect();
                    assert_eq!(bits, expected, "{shards} shards, {ranks} ranks");
                    assert_eq!((sum.numbers.len(), requests), (1, all));
                }
            }
        }
    }

    #[test]
    fn every_rank_gets_what_rank_0_has() {
        for size in [1, 2, 4, 8] {
            let found = on_ranks(size, |ranks| {
                let message = Message {
                    text: format!("of rank {}", ranks.rank()),
                    ..Message::default()
                };
                ranks.broadcast(message).expect("all are there").text
            });
            assert!(found.iter().all(|text| text == "of rank 0"), "{found:?}");
        }
    }
}
