//! Ends this process with the one that started it, even where that one is killed.

use std::io::Read;

/// The environment variable that asks for it. The starting process keeps a pipe to this one's stdin and writes nothing:
/// the system closes the pipe when that process ends, also where it was killed.
pub(crate) const LIFELINE: &str = "RESNET_VAE_LIFELINE";

/// Calls `on_end` as soon as stdin ends, if the environment asks for it.
pub(crate) fn hold(on_end: impl FnOnce() + Send + 'static) {
    if std::env::var_os(LIFELINE).is_none() {
        return;
    }
    std::thread::spawn(|| {
        let mut stdin = std::io::stdin().lock();
        let mut bytes = [0; 64];
        // An error means that nobody can write there any more.
        while stdin.read(&mut bytes).is_ok_and(|count| count > 0) {}
        on_end();
    });
}
