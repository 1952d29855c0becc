//! Reads stored states of sagas, and decides on them.

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::saga_state(bytes));
