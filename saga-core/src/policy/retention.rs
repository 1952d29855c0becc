//! How long what is over is kept.

use std::time::Duration;

/// How long what is over is kept. By default nothing is ever removed.
///
/// # Choosing
///
/// - [`ended_sagas`](Self::ended_sagas) is how long a saga can be looked at after its end, and how long its
///   idempotency key keeps a second one from starting. Make it longer than a caller or a topic
///   may repeat a start: at least the retention of the topics whose facts start sagas.
/// - [`inbox`](Self::inbox) counts from the start of the *saga*. Make it longer than any saga lives,
///   waits and outages included, and longer than the retention of the command topics and of topics whose
///   facts are [handled](crate::HandleFact). What comes later than that is never carried out twice: a command is refused, and its
///   saga parks; a fact is set aside.
///
/// # Examples
///
/// ```
/// use saga_core::RetentionPolicy;
/// use std::time::Duration;
///
/// let month = Duration::from_hours(30 * 24);
/// let policy = RetentionPolicy::keep_all().ended_sagas(month).inbox(3 * month);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    pub(crate) ended_sagas: Option<Duration>,
    pub(crate) inbox: Option<Duration>,
}

impl RetentionPolicy {
    /// Keeps everything for ever.
    #[must_use]
    pub const fn keep_all() -> Self {
        Self { ended_sagas: None, inbox: None }
    }

    /// Removes sagas, with their histories and keys, this long after they completed or were
    /// compensated. Parked sagas stay until somebody decides about them.
    #[must_use]
    pub const fn ended_sagas(self, age: Duration) -> Self {
        Self { ended_sagas: Some(age), ..self }
    }

    /// Removes the records of handled commands this long after their saga started, and of facts this long after they were told.
    #[must_use]
    pub const fn inbox(self, age: Duration) -> Self {
        Self { inbox: Some(age), ..self }
    }
}
