//! The negative log-probability of an image and its gradient in one pass, on Burn's flex backend. The plain forms in the folder
//! above define what it computes.

mod lanes;
mod logistic;
mod mixture;
mod one_pass;
mod operation;
mod real;
mod renormalised_bernoulli;
mod values;

pub(super) use operation::nll;
