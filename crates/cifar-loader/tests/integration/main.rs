//! The crate as its users see it: folders, containers and downloads with everything that can be wrong with them.

#![allow(clippy::unwrap_used)]

mod fixture; // a small archive of generated records
mod server; // an HTTP server with faults, on real sockets

mod containers; // damaged and hostile containers
mod downloads; // what mirrors do
mod folders; // damaged and foreign folders
mod real; // the real data set, where CIFAR10_DIR says it is
