//! The mixture's negative log-probability and its gradient in one pass, on Burn's flex backend. The plain form in
//! `mixture.rs` defines what it computes.

mod kernel;
mod operation;
mod real;

pub(super) use operation::mixture_nll;
