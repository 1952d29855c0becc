//! What a participant answers: it succeeded, or it was refused for a business reason.

use std::fmt;

/// A participant's answer to a command.
///
/// A rejection is a business answer and a value. What the machinery could not do is an error
/// ([`HandlerError`](crate::HandlerError)) and is tried again.
///
/// # Examples
///
/// ```
/// use saga_core::Reply;
/// let reply: Reply<u32> = Reply::rejected("out-of-stock");
/// assert!(matches!(reply, Reply::Rejected(rejection) if rejection.code() == "out-of-stock"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<R> {
    /// The command was carried out.
    Succeeded(R),
    /// The command was refused; the saga compensates.
    Rejected(Rejection),
}

impl<R> Reply<R> {
    /// Answers that the command was carried out.
    pub const fn succeeded(reply: R) -> Self {
        Self::Succeeded(reply)
    }

    /// Answers that the command is refused, with a code that programs can read, such as `card-declined`.
    pub fn rejected(code: impl Into<String>) -> Self {
        Self::Rejected(Rejection::new(code))
    }
}

/// Why a participant refused a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection(String);

/// Longest code of a [`Rejection`], in bytes; what is longer is cut.
const CODE_BYTES_MAX: usize = 255;

impl Rejection {
    /// Makes a rejection with a code that programs can read, such as `out-of-stock`.
    ///
    /// Control characters are dropped and a code longer than 255 bytes is cut: a code always reaches the saga.
    pub fn new(code: impl Into<String>) -> Self {
        let mut code: String = code.into();
        code.retain(|c| !c.is_control());
        code.truncate(code.floor_char_boundary(CODE_BYTES_MAX));
        Self(code)
    }

    /// Returns the code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
