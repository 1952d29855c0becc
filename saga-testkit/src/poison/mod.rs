//! Records that no sound producer sends, for whoever consumes commands, replies or facts.
//!
//! [`all`] is the corpus. Each [`Poison`] bends one sound message of yours in one way, and its
//! [`Flaw`] says what a consumer of this library makes of it. Whatever the flaw, a sound message
//! behind it in the same partition is handled.
//!
//! ```
//! use saga_core::message::{CommandHeaders, Envelope, Kind};
//! use saga_core::{CorrelationId, MessageId, MessageType, ParticipantName, Payload, SagaId};
//! use saga_core::{StepName, Timestamp};
//! use saga_testkit::poison::{self, Flaw};
//!
//! let saga = SagaId::now();
//! let sound = Envelope {
//!     id: MessageId::now(),
//!     message_type: MessageType::new("ReserveStock"),
//!     source: ParticipantName::new("shop"),
//!     correlation: CorrelationId::from(saga),
//!     causation: None,
//!     traceparent: None,
//!     timestamp: Timestamp::from_micros(1_767_225_600_000_000),
//!     kind: Kind::Command(CommandHeaders {
//!         saga,
//!         step: StepName::new("reserve"),
//!         attempt: 1,
//!         attempts_before: 0,
//!         compensates: None,
//!         reply_partition: None,
//!     }),
//!     payload: Payload::from(br#"{"order":"o-1"}"#.to_vec()),
//! };
//! for poison in poison::all().iter().filter(|poison| poison.is_for(&sound)) {
//!     // Send it to your participant, and a sound command behind it.
//!     let value = poison.dose(&sound).value;
//!     if poison.flaw() == Flaw::Undecodable {
//!         assert!(Envelope::decode(value).is_err(), "{}", poison.name());
//!     }
//! }
//! ```
//!
//! The functions whose names begin with `behind_poison` do that with an engine and with participants
//! of the kit's own, on any backend.

mod around;
mod bytes;
mod consumers;
mod headers;
mod payloads;
mod rows;
mod shop;
mod strange;
#[cfg(test)]
mod tests;
mod watch;
mod wire;

use std::fmt;

use ::bytes::Bytes;
use saga_core::Topic;
use saga_core::message::{Envelope, Kind};
use saga_core::transport::Record;

pub use self::consumers::{
    behind_poison_commands_are_carried_out, behind_poison_commands_are_carried_out_together,
    behind_poison_external_calls_are_made, behind_poison_facts_are_handled,
    behind_poison_facts_are_handled_together, behind_poison_facts_start_sagas,
    behind_poison_replies_are_taken,
};
pub use self::rows::{behind_poison_outbox_rows_are_sent, rows};

/// A way in which a message is bad.
pub struct Poison {
    name: String,
    flaw: Flaw,
    bends: &'static [Sort],
    bend: Box<dyn Fn(&Envelope) -> Dose + Send + Sync>,
}

/// What is wrong with a [`Poison`], and so what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// No envelope, or one with a header that makes no sense. It is set aside as `undecodable`.
    Undecodable,
    /// An envelope on the wrong topic. It is set aside, among commands as `not-a-command` and
    /// among replies and facts as `unexpected-command`.
    Misplaced,
    /// A type that the consumer does not know. A participant answers a command that it has no handler,
    /// which parks the saga. A fact is ignored: topics carry facts that are for others.
    UnknownType,
    /// The payload is not what the type says. A participant answers that the command failed for good,
    /// and an engine parks the saga of a reply, until a reply comes that can be read. A fact is set aside,
    /// by a participant as `unhandled-fact` and by an engine as `undecodable-fact`.
    Payload,
    /// Text that some databases refuse. What the handler then says is the answer to a command; a fact
    /// that it cannot handle is set aside as `unhandled-fact`.
    Text,
    /// Nobody waits for it. A participant answers a command. Anything else is ignored: several engines
    /// read the replies of one participant, and each sees those for the sagas of the others.
    Stray,
    /// Strange, and sound all the same. It is handled like any other.
    Strange,
}

/// The sorts of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Command,
    Reply,
    Fact,
}

const ANY: &[Sort] = &[Sort::Command, Sort::Reply, Sort::Fact];
const COMMANDS: &[Sort] = &[Sort::Command];
const REPLIES: &[Sort] = &[Sort::Reply];
const FACTS: &[Sort] = &[Sort::Fact];
const OF_SAGAS: &[Sort] = &[Sort::Command, Sort::Reply];

/// A bad message, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dose {
    /// The record's key: the name of the poison, unless the key is what is bad.
    pub key: Bytes,
    /// The record's value.
    pub value: Bytes,
    /// The record's headers.
    pub headers: Vec<(String, Bytes)>,
}

/// Returns the whole corpus. The names are unique.
#[must_use]
pub fn all() -> Vec<Poison> {
    let unreadable = bytes::all().chain(headers::all());
    unreadable.chain(strange::all()).chain(payloads::all()).chain(around::all()).collect()
}

impl Poison {
    fn new(
        name: impl Into<String>,
        flaw: Flaw,
        bends: &'static [Sort],
        value: impl Fn(&Envelope) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        let key = Bytes::from(name.clone());
        let bend = move |sound: &Envelope| Dose {
            key: key.clone(),
            value: value(sound).into(),
            headers: Vec::new(),
        };
        Self { name, flaw, bends, bend: Box::new(bend) }
    }

    /// Returns the name, which tells what is bad.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what is wrong.
    #[must_use]
    pub const fn flaw(&self) -> Flaw {
        self.flaw
    }

    /// Returns true if messages of this sort (command, reply or fact) can be bad in this way.
    #[must_use]
    pub fn is_for(&self, sound: &Envelope) -> bool {
        let sort = match sound.kind {
            Kind::Command(_) => Sort::Command,
            Kind::Reply(_) => Sort::Reply,
            Kind::Fact => Sort::Fact,
        };
        self.bends.contains(&sort)
    }

    /// Bends a sound message. Give each poison a message of its own: consumers know an id again.
    ///
    /// The payload of the sound message is to be a JSON object with a text in it, for the poisons that bend payloads.
    #[must_use]
    pub fn dose(&self, sound: &Envelope) -> Dose {
        (self.bend)(sound)
    }
}

impl Dose {
    /// Addresses the message.
    #[must_use]
    pub fn record(self, topic: Topic, partition: u32) -> Record {
        let Self { key, value, headers } = self;
        Record { topic, partition: Some(partition), key, value, headers }
    }
}

impl fmt::Debug for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, flaw, bends, .. } = self;
        f.debug_struct("Poison")
            .field("name", name)
            .field("flaw", flaw)
            .field("bends", bends)
            .finish_non_exhaustive()
    }
}
