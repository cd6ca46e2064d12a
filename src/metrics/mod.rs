//! Room `metrics` (under construction).
