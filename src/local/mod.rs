//! What the local commands (status, manage, ...) talk to.
