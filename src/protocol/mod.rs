//! The wire: topics, messages, return codes, the device model. No I/O. Both sides use it.
