//! How fast an exponential moving average of weights forgets.

/// The decay of the update after `updates` of them: `min(decay, (1 + updates) / (10 + updates))`.
///
/// The average starts as the first weights and becomes `a + (1 - d) (w - a)`. The warm-up keeps it from being those first
/// weights for the first 1 / (1 - decay) updates.
pub fn average_decay(decay: f64, updates: u64) -> f64 {
    let updates = updates as f64;
    decay.min((1.0 + updates) / (10.0 + updates))
}
