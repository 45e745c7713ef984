#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod chart;
pub mod image_sheet;
pub mod loss_curves;
pub mod report;
pub mod statistics;
pub mod student;
