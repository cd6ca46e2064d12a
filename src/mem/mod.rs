//! Room `mem` (under construction).

pub mod receive;
pub mod region;
