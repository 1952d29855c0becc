//! Names that are stored or sent: validated once, cheap to clone, never a bare string.

use std::fmt;
use std::sync::Arc;

/// Longest name that a saga, a step, a participant or a message type may have, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Longest topic name, in bytes: the limit of Apache Kafka.
pub const TOPIC_BYTES_MAX: usize = 249;

/// A text that cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is no {kind}: use 1 to {bytes_max} of A-Z a-z 0-9 . _ - and start with a letter or digit",
    text.escape_debug()
)]
pub struct InvalidName {
    kind: &'static str,
    bytes_max: usize,
    text: String,
}

/// Shared text of every name: borrowed from the program or counted, so that a clone never copies.
#[derive(Clone)]
enum Text {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Text {
    fn as_str(&self) -> &str {
        match self {
            Self::Static(text) => text,
            Self::Shared(text) => text,
        }
    }
}

const fn is_valid(text: &[u8], bytes_max: usize) -> bool {
    if text.is_empty() || text.len() > bytes_max || !text[0].is_ascii_alphanumeric() {
        return false;
    }
    let mut at = 1;
    while at < text.len() {
        if !text[at].is_ascii_alphanumeric() && !matches!(text[at], b'.' | b'_' | b'-') {
            return false;
        }
        at += 1;
    }
    true
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $bytes_max:expr) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Text);

        impl $name {
            /// Makes a name from a literal; meant for a `const`, so that a bad name does not compile.
            ///
            /// # Panics
            ///
            /// If the text is not a valid name. In a `const` that is a compile error.
            #[must_use]
            pub const fn new(name: &'static str) -> Self {
                assert!(
                    is_valid(name.as_bytes(), $bytes_max),
                    concat!("not a valid ", $kind, ": use A-Z a-z 0-9 . _ - and start with a letter or digit"),
                );
                Self(Text::Static(name))
            }

            /// Makes a name from text that is known only at run time.
            ///
            /// # Errors
            ///
            /// [`InvalidName`] if the text is empty, too long, or holds a character that names may not have.
            pub fn parse(name: impl AsRef<str>) -> Result<Self, InvalidName> {
                let text = name.as_ref();
                if is_valid(text.as_bytes(), $bytes_max) {
                    return Ok(Self(Text::Shared(text.into())));
                }
                // What is refused may be huge; the message quotes the start of it.
                let text = text.chars().take(64).collect();
                Err(InvalidName { kind: $kind, bytes_max: $bytes_max, text })
            }

            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.as_str() == other.as_str()
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.as_str().cmp(other.as_str())
            }
        }

        impl std::hash::Hash for $name {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.as_str().hash(state);
            }
        }
    };
}

name!(
    /// The stored name of a saga definition. Renaming a definition orphans its running sagas.
    ///
    /// ```
    /// use saga_core::SagaName;
    /// const PLACE_ORDER: SagaName = SagaName::new("place-order");
    /// assert_eq!(PLACE_ORDER.as_str(), "place-order");
    /// assert!(SagaName::parse("place order").is_err());
    /// ```
    SagaName,
    "saga name",
    NAME_BYTES_MAX
);
name!(
    /// The stored name of a step. Renaming a step breaks running sagas; add a version instead.
    StepName,
    "step name",
    NAME_BYTES_MAX
);
name!(
    /// The name of a service: it prefixes the service's topics and names its consumer group.
    ///
    /// ```
    /// use saga_core::ParticipantName;
    /// const INVENTORY: ParticipantName = ParticipantName::new("inventory");
    /// assert_eq!(INVENTORY.commands().as_str(), "inventory.commands");
    /// assert_eq!(INVENTORY.events().as_str(), "inventory.events");
    /// ```
    ParticipantName,
    "participant name",
    NAME_BYTES_MAX
);
name!(
    /// The name of a kind of message on the wire, such as `OrderCreated`.
    MessageType,
    "message type",
    NAME_BYTES_MAX
);
name!(
    /// The name of a topic: an ordered, partitioned stream of records.
    Topic,
    "topic name",
    TOPIC_BYTES_MAX
);

impl ParticipantName {
    /// Returns the topic that this participant takes its commands from.
    #[must_use]
    pub fn commands(&self) -> Topic {
        self.topic("commands")
    }

    /// Returns the topic that this participant publishes its replies and facts to.
    #[must_use]
    pub fn events(&self) -> Topic {
        self.topic("events")
    }

    fn topic(&self, suffix: &str) -> Topic {
        Topic(Text::Shared(format!("{self}.{suffix}").into()))
    }
}

impl Topic {
    /// Returns the topic that messages of this one are published to when they are set aside.
    #[must_use]
    pub fn dead_letters(&self) -> Self {
        Self(Text::Shared(format!("{self}.dlq").into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_refused_with_what_is_allowed() {
        for bad in ["", " ", "-a", "a b", "a/b", "naïve", "a\0", &"x".repeat(129)] {
            let error = StepName::parse(bad).expect_err(bad);
            assert!(error.to_string().contains("is no step name"), "{error}");
        }
        for good in ["a", "reserve-stock", "v1.Order_Created", &"x".repeat(128)] {
            assert_eq!(StepName::parse(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
    }
}
