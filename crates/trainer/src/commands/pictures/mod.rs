//! The commands that draw: from the prior, of pictures, between them and along the latent.

pub(super) mod fid;
pub(super) mod interpolate;
mod prior_flags;
pub(super) mod reconstruct;
pub(super) mod sample;
pub(super) mod sample_statistics;
mod sheet;
pub(super) mod traverse;
