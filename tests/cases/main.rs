//! End-to-end tests: one program of tests, one module a subject.

#![forbid(unsafe_code)]

mod doctor;
mod faults;
mod finished;
mod first_hour;
mod measuring;
mod outside;
mod refusals;
mod runs;
