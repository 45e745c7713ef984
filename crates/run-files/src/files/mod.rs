//! Files and disks: operations that last, files that are whole or not there, and the room for them.

pub mod atomic_file;
pub mod disk;
pub mod file_operations;
pub mod output_file;
