//! The crate as its users see it: folders, containers and downloads with everything that can be wrong with them.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

#[path = "../../../../tests/src/faults.rs"]
mod faults; // how many cases a fault test goes through

mod child; // this program again, as a process to be killed, starved or measured
mod fixture; // a small archive of generated records
mod server; // an HTTP server with faults, on real sockets

mod containers; // damaged and hostile containers
mod downloads; // what mirrors do
mod faults_archives; // every bit of an archive
mod faults_disk; // full disks
mod faults_hostile; // archives made to harm
mod faults_http; // random faults of several mirrors
mod faults_processes; // killed and simultaneous downloads
mod folders; // damaged and foreign folders
mod present_files; // downloads where something is there already
mod real; // the real data set, where CIFAR10_DIR says it is
