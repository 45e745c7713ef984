//! The two blocks of a ResNet, the shortcut around them, and stages of them.

pub(crate) mod basic_block;
pub(crate) mod bottleneck;
pub(crate) mod shortcut;
pub(crate) mod stage;
