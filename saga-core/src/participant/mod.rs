//! The other side of a command.
mod inbox;
pub use inbox::{Handled, Inbox, InboxRecord};
