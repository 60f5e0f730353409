//! The program of the factory reset on real file systems: ext4 on loop devices, bind mounts, links, and kills at every
//! system call. Wants root, for mounting; every mount is in a namespace that ends with its test.
#![allow(clippy::unwrap_used)]

#[path = "../support/bus.rs"]
mod bus;

mod anew;
mod kills;
mod place;
mod random;
mod refused;
mod wiped;
