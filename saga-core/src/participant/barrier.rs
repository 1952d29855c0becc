//! The inbox's rules: what was answered before is answered again, and a compensation bars what it undoes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use uuid::Uuid;

use super::inbox::{InboxRecord, Remembered};
use super::incoming::Incoming;
use super::route::Answer;
use crate::message::{CommandHeaders, Envelope, Kind, Outcome};
use crate::store::StoreError;
use crate::wire;
use crate::{CodecError, MessageId, MessageType, Payload};

/// The rejection code of a command that arrives after its compensation.
const UNDONE_BEFORE: &str = "undone-before-it-arrived";
/// Why a command is not carried out that is older than the records.
const FORGOTTEN: &str = "it is older than what the inbox remembers, so it may have been carried out before; \
    find out what came of it and resolve the step";

/// What a participant knows of the commands of a batch and of those that they compensate.
#[derive(Default)]
pub(super) struct Barrier {
    known: HashMap<MessageId, Recorded>,
    /// Commands with a lower id may have had a record.
    purged_below: Option<MessageId>,
    /// What is to be recorded.
    records: Vec<InboxRecord>,
}

/// An answer that was given, and the id of the message that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) reply: MessageId,
    pub(super) answer: Answer,
}

/// What is to be done with a command.
pub(super) enum Ruling {
    /// Answer this; nothing is to be done.
    Answer(Arc<Recorded>),
    /// It is older than what is on record, and may have been carried out.
    Forgotten,
    /// Carry it out.
    CarryOut,
}

impl Barrier {
    /// Takes over what the inbox has on record.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] if a record cannot be read.
    pub(super) fn new(remembered: Remembered) -> Result<Self, StoreError> {
        let known = remembered
            .records
            .into_iter()
            .map(|record| Ok((record.command, Recorded::decode(record.reply)?)))
            .collect::<Result<_, CodecError>>()
            .map_err(|error| StoreError::Refused {
                operation: "reading the inbox",
                source: error.into(),
            })?;
        Ok(Self { known, purged_below: remembered.purged_below, records: Vec::new() })
    }

    /// Returns true if a command was answered before.
    pub(super) fn knows(&self, command: MessageId) -> bool {
        self.known.contains_key(&command)
    }

    /// Decides whether a command is carried out. In a participant that calls other systems a
    /// compensation always is, unless its command was refused: a call may have been made and not recorded.
    pub(super) fn rule(&mut self, command: &Incoming, calls_out: bool) -> Ruling {
        if let Some(recorded) = self.known.get(&command.id) {
            return Ruling::Answer(Arc::new(recorded.clone()));
        }
        // All ids of a saga begin with the saga's time, so what a sound one compensates is as old.
        let is_old = |id| self.purged_below.is_some_and(|below| id < below);
        if is_old(command.id) || command.compensates().is_some_and(is_old) {
            return Ruling::Forgotten;
        }
        let Some(compensated) = command.compensates() else {
            return Ruling::CarryOut;
        };
        let outcome = self.known.get(&compensated).map(|recorded| &recorded.answer.outcome);
        match outcome {
            Some(Outcome::Succeeded) => Ruling::CarryOut,
            None if calls_out => Ruling::CarryOut,
            _ => Ruling::Answer(self.record(command, Answer::nothing_to_undo())),
        }
    }

    /// Remembers what a command was answered, for its duplicates and for the inbox. A compensation
    /// bars its command from now on.
    ///
    /// A failure changed nothing, so that the command may be carried out another time.
    pub(super) fn record(&mut self, command: &Incoming, answer: Answer) -> Arc<Recorded> {
        let recorded = Recorded::new(answer);
        if recorded.answer.is_settled() {
            self.keep(command.id, recorded.clone());
            if let Some(compensated) = command.compensates()
                && !self.known.contains_key(&compensated)
            {
                let undone = Answer::undone_before(&command.envelope.message_type);
                self.keep(compensated, Recorded::new(undone));
            }
        }
        Arc::new(recorded)
    }

    fn keep(&mut self, command: MessageId, recorded: Recorded) {
        self.records.push(InboxRecord { command, reply: recorded.encode() });
        self.known.insert(command, recorded);
    }

    /// Returns what is to be recorded in the inbox.
    pub(super) fn into_records(self) -> Vec<InboxRecord> {
        self.records
    }
}

/// Returns the ids that the inbox is asked about: the commands and what they compensate.
pub(super) fn ids<'a>(commands: impl Iterator<Item = &'a Incoming>) -> Vec<MessageId> {
    let ids = commands.flat_map(|it| [Some(it.id), it.compensates()]);
    ids.flatten().collect::<HashSet<_>>().into_iter().collect()
}

/// Splits a batch into rounds, in order, so that no two messages of a round have to do with each
/// other: not of one saga or key, not of one id, not the one a compensation of the other.
pub(super) fn rounds(messages: &[Incoming]) -> Vec<Vec<usize>> {
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    let mut next_round: HashMap<Uuid, usize> = HashMap::new();
    for (index, message) in messages.iter().enumerate() {
        let touched = || message.touched();
        let round = touched().filter_map(|id| next_round.get(&id).copied()).max().unwrap_or(0);
        if rounds.len() == round {
            rounds.push(Vec::new());
        }
        rounds[round].push(index);
        for id in touched() {
            next_round.insert(id, round + 1);
        }
    }
    rounds
}

/// Sets apart what is tried again, with whatever comes behind it and has to do with it.
pub(super) fn apart(messages: Vec<Incoming>) -> (Vec<Incoming>, Vec<Incoming>) {
    let is_again = Incoming::is_sent_again;
    if !messages.iter().any(is_again) {
        return (messages, Vec::new());
    }
    let mut touched = HashSet::new();
    messages.into_iter().partition(|message| {
        let is_apart = is_again(message) || message.touched().any(|id| touched.contains(&id));
        if is_apart {
            touched.extend(message.touched());
        }
        !is_apart
    })
}

/// Returns the headers of an envelope that was found to be a command when it was received.
pub(super) fn headers(envelope: &Envelope) -> &CommandHeaders {
    match &envelope.kind {
        Kind::Command(headers) => headers,
        Kind::Fact | Kind::Reply(_) => unreachable!("only commands are handed to a participant"),
    }
}

impl Recorded {
    pub(super) fn new(answer: Answer) -> Self {
        Self { reply: MessageId::now(), answer }
    }

    fn encode(&self) -> Bytes {
        let (outcome, reason) = self.answer.outcome.to_wire();
        wire::RecordedReply {
            reply_id: Bytes::copy_from_slice(self.reply.as_bytes()),
            outcome: outcome.into(),
            r#type: self.answer.message_type.to_string(),
            payload: self.answer.payload.0.clone(),
            reason: reason.to_owned(),
        }
        .encode_to_vec()
        .into()
    }

    fn decode(bytes: Bytes) -> Result<Self, CodecError> {
        let reply = wire::RecordedReply::decode(bytes).map_err(CodecError::new)?;
        Ok(Self {
            reply: MessageId(Uuid::from_slice(&reply.reply_id).map_err(CodecError::new)?),
            answer: Answer {
                outcome: Outcome::from_wire(reply.outcome, reply.reason)
                    .map_err(CodecError::new)?,
                message_type: MessageType::parse(&reply.r#type).map_err(CodecError::new)?,
                payload: Payload(reply.payload),
            },
        })
    }
}

impl Answer {
    /// Returns true if the command was carried out or refused, so that it is not tried again.
    pub(crate) const fn is_settled(&self) -> bool {
        matches!(self.outcome, Outcome::Succeeded | Outcome::Rejected(_))
    }

    /// Returns why the command failed, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Succeeded | Outcome::Rejected(_) => None,
            Outcome::FailedTransiently(message) | Outcome::FailedPermanently(message) => {
                Some(message.clone())
            }
        }
    }

    pub(crate) fn nothing_to_undo() -> Self {
        Self {
            outcome: Outcome::Succeeded,
            message_type: MessageType::new("NothingToUndo"),
            payload: Payload::default(),
        }
    }

    pub(super) fn forgotten() -> Self {
        Self::failed(Outcome::FailedPermanently(FORGOTTEN.to_owned()))
    }

    pub(super) fn no_handler(command: &MessageType) -> Self {
        Self::failed(Outcome::FailedPermanently(format!("there is no handler for `{command}`")))
    }

    pub(crate) fn failed(outcome: Outcome) -> Self {
        Self { outcome, message_type: MessageType::new("Failed"), payload: Payload::default() }
    }

    fn undone_before(compensation: &MessageType) -> Self {
        Self {
            outcome: Outcome::Rejected(UNDONE_BEFORE.to_owned()),
            message_type: compensation.clone(),
            payload: Payload::default(),
        }
    }
}
