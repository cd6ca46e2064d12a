//! Room `ws` (under construction).
