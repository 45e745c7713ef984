//! Whether all ranks are about to do the same.

use super::{Message, Ranks, RanksError};

/// Something that all ranks must have alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    /// Its name in a sentence.
    pub(crate) what: String,
    pub(crate) value: String,
    /// What to do where it differs.
    pub(crate) cure: &'static str,
}

impl Fact {
    pub(crate) fn new(
        what: impl Into<String>,
        value: impl Into<String>,
        cure: &'static str,
    ) -> Self {
        Self {
            what: what.into(),
            value: value.into(),
            cure,
        }
    }
}

impl Ranks {
    /// Compares what every rank has with what rank 0 has, in order.
    ///
    /// # Errors
    /// The same on every rank: the first rank that differs, and in what; or a rank that is lost.
    pub(crate) fn agree(&self, facts: &[Fact]) -> Result<(), RanksError> {
        if !self.are_several() {
            return Ok(());
        }
        let values: Vec<&str> = facts.iter().map(|fact| fact.value.as_str()).collect();
        let own = serde_json::to_string(&values).expect("texts serialise");
        let of_first = self.broadcast(Message {
            text: own,
            ..Message::default()
        })?;
        let expected: Vec<String> = serde_json::from_str(&of_first.text).unwrap_or_default();
        let differs = facts.iter().enumerate().find(|(index, fact)| {
            let expected = expected.get(*index);
            expected.is_none_or(|expected| *expected != fact.value)
        });
        // Every rank learns what the lowest one that differs has found.
        let verdict = differs.map_or_else(String::new, |(index, fact)| {
            let expected = expected.get(index).cloned().unwrap_or_default();
            let told = [index.to_string(), expected, fact.value.clone()];
            serde_json::to_string(&told).expect("texts serialise")
        });
        let Some((rank, verdict)) = self.lowest(verdict)? else {
            return Ok(());
        };
        let [index, expected, found]: [String; 3] =
            serde_json::from_str(&verdict).unwrap_or_default();
        let fact = index.parse().ok().and_then(|index: usize| facts.get(index));
        Err(RanksError::Differs {
            rank,
            size: self.size(),
            what: fact.map_or("program", |fact| fact.what.as_str()).into(),
            expected: expected.into(),
            found: found.into(),
            cure: fact.map_or("start the same program on all machines", |fact| fact.cure),
        })
    }

    /// The text of the lowest rank that has one, on every rank.
    fn lowest(&self, own: String) -> Result<Option<(usize, String)>, RanksError> {
        let Some(mut transport) = self.transport() else {
            return Ok((!own.is_empty()).then_some((0, own)));
        };
        let (rank, levels) = (transport.rank(), transport.size().ilog2());
        let mut lowest = (!own.is_empty()).then_some((rank, own));
        for level in 0..levels {
            let message = Message {
                numbers: lowest.iter().map(|(rank, _)| *rank as f64).collect(),
                text: lowest
                    .as_ref()
                    .map_or_else(String::new, |(_, text)| text.clone()),
                ..Message::default()
            };
            let received = transport.exchange(rank ^ (1 << level), message)?;
            let other = received
                .numbers
                .first()
                .map(|rank| (*rank as usize, received.text));
            lowest = match (lowest, other) {
                (Some(own), Some(other)) => Some(if own.0 < other.0 { own } else { other }),
                (own, other) => own.or(other),
            };
        }
        Ok(lowest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::threads::on_ranks;
    use super::*;

    #[test]
    fn all_ranks_name_the_first_one_that_differs() {
        let facts = |seed: &str| {
            [
                Fact::new("program", "1.0", "copy it"),
                Fact::new("seed", seed, "give the same flags"),
            ]
        };
        let same = on_ranks(4, |ranks| ranks.agree(&facts("1")));
        assert!(same.iter().all(Result::is_ok));
        let found = on_ranks(4, |ranks| {
            ranks.agree(&facts(["1", "1", "7", "8"][ranks.rank()]))
        });
        let expected = RanksError::Differs {
            rank: 2,
            size: 4,
            what: "seed".into(),
            expected: "1".into(),
            found: "7".into(),
            cure: "give the same flags",
        };
        assert!(
            found.iter().all(|found| found.as_ref() == Err(&expected)),
            "{found:?}"
        );
    }
}
