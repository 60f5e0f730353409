//! The brain: one state machine per noun. Event in, step out. No I/O, no clock, no randomness.
