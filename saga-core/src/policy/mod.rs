//! Policies: when to ask again, when to set a message aside, and how long to keep what is over.

pub mod dead_letter;
pub mod retention;
pub mod retry;
