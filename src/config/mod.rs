//! Room `config` (under construction).
