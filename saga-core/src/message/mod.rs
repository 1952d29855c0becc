//! What services say to each other: typed messages, and the envelope that carries one.

mod command;
mod envelope;
mod reply;

pub use command::{Command, Fact, Message};
pub use envelope::{
    CommandHeaders, ENVELOPE_BYTES_MAX, Envelope, EnvelopeError, Kind, Outcome, ReplyHeaders,
};
pub(crate) use envelope::{FAILURE_BYTES_MAX, PAYLOAD_BYTES_MAX};
pub use reply::{Rejection, Reply};

/// Prints an error with its causes.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    // It may quote the message that was received.
    text.truncate(text.floor_char_boundary(FAILURE_BYTES_MAX));
    text
}
