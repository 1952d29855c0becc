//! The same work by hand-written code, without the engine: what the library is measured against.

mod local;

pub(crate) use local::Local;
