//! The private object-safe face.
