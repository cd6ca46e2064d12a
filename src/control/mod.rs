//! Room `control` (under construction).
