//! Fast forms of the blocks on Burn's flex backend. The plain forms define what they compute.

mod backward;
mod block;
mod element;
mod elementwise;
mod forward;
mod interleaved;
mod layout;
mod operation;
mod partition;
mod passes;
mod pointwise;
mod product;
mod spatial;
mod statistics;
