//! Room `broker` (under construction).
