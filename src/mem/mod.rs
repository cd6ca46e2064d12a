//! Room `mem` (under construction).
