//! What a participant has received: read, or told apart from what it cannot handle.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use uuid::Uuid;

use super::Participant;
use crate::ids::{FNV, first_at, fnv1a};
use crate::message::{CommandHeaders, Envelope, Kind, Outcome, describe};
use crate::transport::{Delivery, Partition, Position};
use crate::{MessageId, ParticipantName, Timestamp};

/// A command or a fact, and how it came here.
pub(super) struct Incoming {
    /// What the inbox knows it by.
    pub(super) id: MessageId,
    pub(super) envelope: Envelope,
    pub(super) delivery: Delivery,
    /// The letter that it was, if it had been set aside.
    pub(super) letter: Option<MessageId>,
}

/// Where something came from that is done with.
pub(super) enum Origin {
    Delivery(Position),
    /// It had been set aside.
    Letter(MessageId),
}

/// Why a message is set aside: a short class, and what was found.
type Broken = (&'static str, String);

impl<Conn: Send + 'static> Participant<Conn> {
    /// Reads a delivery. One that means nothing to this participant is `None`.
    pub(super) fn read(&self, delivery: &Delivery) -> Result<Option<Envelope>, Broken> {
        let envelope = Envelope::decode(delivery.value.clone())
            .map_err(|error| ("undecodable", describe(&error)))?;
        let topic = &delivery.position.topic;
        let is_for_commands = *topic == self.name.commands();
        let is_mine = match &envelope.kind {
            Kind::Command(_) if is_for_commands => true,
            Kind::Command(_) => {
                let detail = format!("`{}` is a command on an events topic", envelope.message_type);
                return Err(("unexpected-command", detail));
            }
            Kind::Fact | Kind::Reply(_) if is_for_commands => {
                let detail = format!("`{}` is no command", envelope.message_type);
                return Err(("not-a-command", detail));
            }
            Kind::Fact => self.handles_fact(&envelope.message_type, topic),
            Kind::Reply(reply) => {
                reply.outcome == Outcome::Succeeded
                    && self.handles_fact(&envelope.message_type, topic)
            }
        };
        Ok(is_mine.then_some(envelope))
    }
}

impl Incoming {
    pub(super) fn new(
        participant: &ParticipantName,
        envelope: Envelope,
        delivery: Delivery,
        letter: Option<MessageId>,
    ) -> Self {
        let id = match envelope.kind {
            Kind::Command(_) => envelope.id,
            Kind::Fact | Kind::Reply(_) => inbox_id(participant, &envelope),
        };
        Self { id, envelope, delivery, letter }
    }

    /// Returns the headers of a command; a fact has none.
    pub(super) const fn command(&self) -> Option<&CommandHeaders> {
        match &self.envelope.kind {
            Kind::Command(headers) => Some(headers),
            Kind::Fact | Kind::Reply(_) => None,
        }
    }

    /// Returns the command that this one undoes, if it undoes one.
    pub(super) fn compensates(&self) -> Option<MessageId> {
        self.command()?.compensates
    }

    /// Returns the number of the partition that it came in.
    pub(super) const fn lane(&self) -> u32 {
        self.delivery.position.partition
    }

    pub(super) fn partition(&self) -> Partition {
        Partition { topic: self.delivery.position.topic.clone(), number: self.lane() }
    }

    /// Returns true for a command that was sent before.
    pub(super) fn is_sent_again(&self) -> bool {
        self.command().is_some_and(|command| command.attempt > 1)
    }

    /// Returns the id under which it is counted how often it was begun: another one each time that somebody has a command
    /// tried anew, or a letter handled again.
    pub(super) fn counted_as(&self) -> MessageId {
        let before = self.command().map_or(0, |command| command.attempts_before);
        let mut hash = FNV;
        if before > 0 {
            hash = fnv1a(hash, &before.to_be_bytes());
        }
        if let Some(letter) = self.letter {
            hash = fnv1a(hash, letter.as_bytes());
        }
        if hash == FNV { self.id } else { derived_id(self.id, self.envelope.timestamp, hash) }
    }

    /// Returns what it has to do with: its saga or its key, itself, and what it compensates.
    pub(super) fn touched(&self) -> impl Iterator<Item = Uuid> + use<> {
        let of = match self.command() {
            Some(headers) => Some(headers.saga.0),
            None => key_id(&self.delivery),
        };
        let ids = [of, Some(self.id.0), self.compensates().map(|id| id.0)];
        ids.into_iter().flatten()
    }

    /// Returns whom to tell that it is done with.
    pub(super) fn into_origin(self) -> Origin {
        Origin::new(self.letter, self.delivery.position)
    }
}

impl Origin {
    pub(super) fn new(letter: Option<MessageId>, position: Position) -> Self {
        letter.map_or(Self::Delivery(position), Self::Letter)
    }
}

/// Stands for the key of a fact within this process. Two keys with one hash wait for each other, and that is all.
fn key_id(fact: &Delivery) -> Option<Uuid> {
    let mut hasher = DefaultHasher::new();
    fact.position.topic.as_str().hash(&mut hasher);
    fact.key.hash(&mut hasher);
    (!fact.key.is_empty()).then(|| Uuid::from_u128(u128::from(hasher.finish())))
}

/// Returns the id under which a participant's inbox has a fact: as old as the fact, and another one for each participant,
/// since several may handle it in one database.
///
/// It is stored, so it never changes.
fn inbox_id(participant: &ParticipantName, fact: &Envelope) -> MessageId {
    derived_id(fact.id, fact.timestamp, fnv1a(FNV, participant.as_str().as_bytes()))
}

/// Returns another id of something, as old as that is.
fn derived_id(id: MessageId, made_at: Timestamp, hash: u64) -> MessageId {
    // The random part of an id of version 7; its time and its version stay.
    const RANDOM: u64 = (1 << 62) - 1;
    if id.0.get_version_num() == 7 {
        return MessageId(Uuid::from_u128(id.0.as_u128() ^ u128::from(hash & RANDOM)));
    }
    // Another producer's: what is purged by age needs to have one.
    let hash = fnv1a(hash, id.as_bytes()) & RANDOM;
    let random = u128::from(hash) | (7 << 76) | (2 << 62);
    MessageId(Uuid::from_u128(first_at(made_at).as_u128() | random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CorrelationId, MessageType, Payload};

    #[test]
    fn the_inbox_id_of_a_fact_never_changes_and_is_as_old_as_the_fact() {
        let fact = |id: &str| Envelope {
            id: id.parse().expect("an id"),
            message_type: MessageType::new("OrderPlaced"),
            source: ParticipantName::new("web"),
            correlation: CorrelationId::new("o-1").expect("short"),
            causation: None,
            traceparent: None,
            timestamp: Timestamp::from_micros(0x019a_ca5e_1234 * 1_000 + 999),
            kind: Kind::Fact,
            payload: Payload::default(),
        };
        let ours = fact("019aca5e-1234-7abc-8def-0123456789ab");
        let id = |name| inbox_id(&ParticipantName::new(name), &ours);
        assert_eq!(id("summary").to_string(), "019aca5e-1234-7abc-ae2d-8018881f8cb8");
        assert_ne!(id("summary"), id("search"));
        let foreign = fact("9f1c1ed4-6f0a-4c9e-a6c6-0123456789ab");
        let id = inbox_id(&ParticipantName::new("summary"), &foreign);
        assert_eq!(id.to_string(), "019aca5e-1234-7000-8e8d-3b6163a59675");
        assert_eq!(id.0.get_version_num(), 7);
    }
}
