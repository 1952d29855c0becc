//! The same work by hand-written code, without the engine: what the library is measured against.

mod kafka;
mod local;
mod path;

pub(crate) use kafka::Kafka;
pub(crate) use local::Local;
