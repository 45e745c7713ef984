//! Reads members of a data set, out of a container or as files.

pub(crate) mod extract;
pub(crate) mod member_file;
