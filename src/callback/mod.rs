//! Room `callback` (under construction).
