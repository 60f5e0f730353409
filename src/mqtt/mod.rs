//! One session to a broker: TLS, reconnect, acknowledgements. Both sides use it.
