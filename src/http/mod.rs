//! Room `http` (under construction).
