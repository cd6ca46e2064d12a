//! Room `stomp` (under construction).
