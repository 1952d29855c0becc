//! What must be so, and what is not.

use std::fmt::Debug;

/// The laws that are broken, with what was found.
#[derive(Default)]
pub(crate) struct Broken(pub(crate) Vec<String>);

impl Broken {
    #[expect(clippy::needless_pass_by_value, reason = "a law reads better without borrows")]
    pub(crate) fn unless<T: PartialEq + Debug>(&mut self, law: &str, found: T, expected: T) {
        if found == expected {
            return;
        }
        let mut text = format!("{law}: found {found:?}, expected {expected:?}");
        text.truncate(text.floor_char_boundary(1_000));
        self.0.push(text);
    }
}
