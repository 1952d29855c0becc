//! The laws of [`Transport`], its publishers and its subscribers.
//!
//! Each law is a function that takes a [`Fixture`] and panics with what is broken.
//! [`transport_conformance!`](crate::transport_conformance) makes a test of each.
//!
//! Nothing sleeps: what must arrive is waited for with the fixture's patience, and what must not
//! arrive is ruled out by a record that is published behind it.

mod groups;
mod offsets;
mod publishing;
mod reader;
mod topics;

use std::time::Duration;

use saga_core::{ParticipantName, Topic, Transport};

pub use groups::{
    a_new_group_starts_at_the_beginning, an_acknowledgement_of_a_lost_partition_is_ignored,
    groups_receive_independently, members_of_a_group_share_the_partitions,
};
pub use offsets::{
    a_dropped_receive_loses_nothing, a_gap_holds_the_watermark, what_is_acknowledged_is_not,
    what_is_not_acknowledged_is_delivered_again,
};
pub use publishing::{
    a_failed_publisher_takes_nothing_more, a_key_stays_in_one_partition,
    a_published_record_is_delivered, an_explicit_partition_is_kept,
    batches_are_appended_in_call_order, records_of_a_partition_keep_their_order,
};
pub use topics::{
    an_unknown_topic_is_an_error_and_not_created, ensured_topics_keep_their_partitions,
};

/// Hands the names of all laws of a transport to another macro, after what is in the brackets.
#[doc(hidden)]
#[macro_export]
macro_rules! __transport_laws {
    ($then:ident [$($given:tt)*]) => {
        $crate::$then! {
            [$($given)*]
            a_published_record_is_delivered
            records_of_a_partition_keep_their_order
            batches_are_appended_in_call_order
            a_key_stays_in_one_partition
            an_explicit_partition_is_kept
            a_failed_publisher_takes_nothing_more
            an_unknown_topic_is_an_error_and_not_created
            ensured_topics_keep_their_partitions
            groups_receive_independently
            members_of_a_group_share_the_partitions
            a_new_group_starts_at_the_beginning
            an_acknowledgement_of_a_lost_partition_is_ignored
            what_is_not_acknowledged_is_delivered_again
            what_is_acknowledged_is_not
            a_gap_holds_the_watermark
            a_dropped_receive_loses_nothing
        }
    };
}

/// The names of all laws in this module.
pub const LAWS: &[&str] = crate::__transport_laws!(__names []);

/// Makes a `#[test]` of each law of a transport, each on what `fixture().await` gives.
///
/// `fixture` is the path of an async function without arguments that returns a
/// [`transport::Fixture`](crate::transport::Fixture).
///
/// ```
/// use saga_core::MemoryTransport;
/// use saga_testkit::transport::Fixture;
///
/// async fn fresh() -> Fixture<MemoryTransport> {
///     Fixture::new(MemoryTransport::new(), "fresh")
/// }
///
/// saga_testkit::transport_conformance!(fresh); // one #[test] per law
/// ```
#[macro_export]
macro_rules! transport_conformance {
    ($fixture:path) => {
        $crate::__transport_laws! { __tests [transport, $fixture] }
    };
}

/// A transport, and names on it that are nobody else's.
///
/// The transport makes topics of at least four partitions. It may be shared: a law touches only
/// topics and groups whose names start with the prefix.
#[derive(Debug, Clone)]
pub struct Fixture<T> {
    transport: T,
    prefix: String,
    patience: Duration,
}

impl<T: Transport> Fixture<T> {
    /// Makes a fixture; `prefix` must be new on the broker, and may be used in a name.
    ///
    /// A fixture that cannot reach its broker panics and says how to start it.
    #[must_use]
    pub fn new(transport: T, prefix: impl Into<String>) -> Self {
        Self { transport, prefix: prefix.into(), patience: Duration::from_secs(30) }
    }

    /// Sets how long a law waits for what must happen; 30 s by default, enough for a broker that is
    /// electing and rebalancing.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    fn topic(&self, name: &str) -> Topic {
        Topic::parse(format!("{}.{name}", self.prefix)).expect("the prefix can be used in a name")
    }

    fn group(&self, name: &str) -> ParticipantName {
        let name = format!("{}.{name}", self.prefix);
        ParticipantName::parse(name).expect("the prefix can be used in a name")
    }
}

#[cfg(test)]
mod tests {
    /// A law that is written and not listed would never run.
    #[test]
    fn every_law_is_listed() {
        let sources = [
            include_str!("transport/groups.rs"),
            include_str!("transport/offsets.rs"),
            include_str!("transport/publishing.rs"),
            include_str!("transport/topics.rs"),
        ];
        let lines = sources.iter().flat_map(|source| source.lines());
        let laws = lines.filter_map(|line| line.strip_prefix("pub async fn "));
        let mut laws: Vec<_> = laws.map(|rest| rest.split('<').next().unwrap()).collect();
        let mut listed = super::LAWS.to_vec();
        laws.sort_unstable();
        listed.sort_unstable();
        assert_eq!(laws, listed);
    }
}
