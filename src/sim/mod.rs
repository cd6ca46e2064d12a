//! Room `sim` (under construction).
