//! The wire, from outside: what is written is read back, nothing that comes in makes it panic, a message that cannot be
//! used names the request it can be answered to, and every shape that the protocol has had is understood.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod bad;
mod practice;
mod round_trip;
mod shapes;
mod values;
