//! Room `engine` (under construction).
