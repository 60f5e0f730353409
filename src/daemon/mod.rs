//! The one place where all rooms meet: carries events in and effects out.
