//! Numbers on the command line, refused in the words that settings are refused in.

use std::ops::RangeInclusive;

use clap::builder::{StringValueParser, TypedValueParser};

/// An integer of a range.
pub(super) fn integer<T>(range: RangeInclusive<usize>) -> impl TypedValueParser<Value = T>
where
    T: TryFrom<usize> + Clone + Send + Sync + 'static,
{
    let (low, high) = range.into_inner();
    StringValueParser::new().try_map(move |text| {
        text.parse()
            .ok()
            .filter(|number| (low..=high).contains(number))
            .and_then(|number: usize| T::try_from(number).ok())
            .ok_or_else(|| format!("expected an integer from {low} to {high}"))
    })
}
