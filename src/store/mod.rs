//! What must survive a power cut: the durable state and the outbox.
