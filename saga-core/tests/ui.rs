//! What must not compile, and the message that says why.
//!
//! `TRYBUILD=overwrite cargo test -p saga-core --test ui` writes the messages anew.

#[test]
fn mistakes_do_not_compile_and_the_message_teaches() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
