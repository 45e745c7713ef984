//! Statistics of the norms: moments, what a norm makes of them, and a norm folded into the layer before it.

pub(super) mod folded;
pub(super) mod moments;
pub(super) mod normalization;
