//! How many values the norms of an autoencoder take their statistics over.

/// Values of an image that a norm takes its statistics over: the positions of its maps.
pub(super) fn positions(name: &str) -> usize {
    let parts: Vec<&str> = name.split('.').collect();
    let stage = |stage: &str| stage.parse::<usize>().unwrap_or(0);
    let side = match parts[..] {
        ["encoder", "dense_norm", ..] => 4,
        ["encoder", "stages", index, ..] => 32 >> stage(index),
        ["decoder", "stages", index, ..] => 4 << stage(index),
        _ => 1,
    };
    side * side
}
