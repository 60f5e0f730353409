//! RAUC: the real service of this Debian, and a scripted one for newer versions and for what RAUC never does on demand.

mod real;
mod refused;
mod scripted;
mod slots;
