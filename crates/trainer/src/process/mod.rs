//! The program as a process: its terminal, its signals, its children.

mod heartbeat;
pub(crate) mod lifeline;
pub(crate) mod own_program;
pub mod progress;
pub(crate) mod remaining_time;
pub mod stop_request;
