//! Room `sockjs` (under construction).
