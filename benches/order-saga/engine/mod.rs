//! The work done with the library, by its public API and its defaults.

mod local;

pub(crate) use local::Local;
