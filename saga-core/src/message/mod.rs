//! What services say to each other: typed messages, and the envelope that carries one.

mod command;
mod envelope;
mod reply;

pub use command::{Command, Fact, Message};
pub use envelope::{
    CommandHeaders, ENVELOPE_BYTES_MAX, Envelope, EnvelopeError, Kind, Outcome, ReplyHeaders,
};
pub use reply::{Rejection, Reply};
