//! Policies: when to ask again, and when to set a message aside.

pub mod dead_letter;
pub mod retry;
