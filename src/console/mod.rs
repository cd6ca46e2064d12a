//! Room `console` (under construction).
