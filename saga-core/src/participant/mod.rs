//! The other side of a command: a service that carries commands out, each exactly once, and handles facts of others.
//!
//! A [`Participant`] routes commands to [handlers](Handle), and facts to [theirs](HandleFact). Started on a store and a transport it
//! takes commands from its topic; registered with an engine ([`EngineBuilder::local`](crate::EngineBuilder::local))
//! it runs inside the engine's own transactions.
//!
//! # What happens to a command
//!
//! In one transaction of the participant's own database: look the command up in the [`Inbox`];
//! carry it out; record it with its answer; append the reply to the outbox. Then publish,
//! then acknowledge. The order of these is why a crash anywhere doubles nothing and loses nothing.
//!
//! - A command that was recorded gets the recorded answer again.
//! - A compensation whose command was never seen leaves a tombstone under that command's id and
//!   answers that there is nothing to undo; the command arriving later is refused (the *barrier*).
//! - An error rolls back and is tried again, three times at once and then by the saga's policy.
//!   One command's error never fails its neighbours: the batch is taken apart until it stands alone.
//! - A command that is older than what the inbox remembers may have been carried out before. It is not
//!   carried out, and its saga parks ([`Retention`](crate::Retention)).
//! - A command that [calls another system](HandleExternal) has no transaction to be in. Its call is made
//!   first, apart from everything else, and recorded and answered afterwards.
//! - A panic, an undecodable command or [`HandlerError::terminal`] parks the saga.

mod barrier;
mod careful;
mod external;
mod facts;
mod handler;
mod inbox;
mod incoming;
mod route;
mod running;
mod service;
mod telemetry;
mod transactional;
mod writing;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use crate::message::{Envelope, Kind, Outcome};
use crate::store::StoreError;
use crate::transport::Record;
use crate::{Command, DefinitionError, Fact, MessageType, ParticipantName, Topic};

pub use facts::{FactContext, HandleAllFacts, HandleFact};
pub use handler::{
    Context, Handle, HandleAll, HandleExternal, HandlerError, HandlerResult, Terminal,
};
pub use inbox::{Handled, Inbox, InboxRecord, Remembered};
pub use running::RunningParticipant;

use facts::{AllFacts, EachFact};
use route::{All, DynHandle, Each, External, Failure, Route};
pub(crate) use route::{Answer, Answers};
pub(crate) use transactional::EXCUSES_MAX;

/// How long one call of a handler may take, unless [`ParticipantBuilder::handler_timeout`] says otherwise.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(30);

/// A service that carries out commands and handles facts: the handlers, by type of message.
///
/// `Conn` is the connection of the store that it will run on.
///
/// # Examples
///
/// ```
/// # use saga_core::{Context, Handle, HandlerResult, Reply};
/// # use saga_core::{Command, Json, Message, MessageType};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] struct TakeOne;
/// # impl Message for TakeOne { const TYPE: MessageType = MessageType::new("TakeOne"); type Codec = Json; }
/// # impl Command for TakeOne { type Reply = Left; const PARTICIPANT: ParticipantName = STOCK; }
/// # #[derive(Serialize, Deserialize)] struct Left(u32);
/// # impl Message for Left { const TYPE: MessageType = MessageType::new("Left"); type Codec = Json; }
/// # struct Stock;
/// # impl Handle<TakeOne, u32> for Stock {
/// #     async fn handle(&self, _: TakeOne, _: &mut Context<'_, u32>) -> HandlerResult<Left> { Ok(Reply::succeeded(Left(1))) }
/// # }
/// use saga_core::{Participant, ParticipantName};
///
/// const STOCK: ParticipantName = ParticipantName::new("stock");
/// let participant = Participant::builder(STOCK).handle::<TakeOne>(Stock).build()?;
/// assert_eq!(participant.name(), &STOCK);
/// # Ok::<(), saga_core::DefinitionError>(())
/// ```
pub struct Participant<Conn> {
    name: ParticipantName,
    routes: HashMap<MessageType, Route<Conn>>,
    handler_timeout: Duration,
}

impl<Conn: Send + 'static> Participant<Conn> {
    /// Begins a participant. Its name is also its consumer group and the prefix of its topics.
    pub fn builder(name: ParticipantName) -> ParticipantBuilder<Conn> {
        let participant = Self { name, routes: HashMap::new(), handler_timeout: HANDLER_TIMEOUT };
        ParticipantBuilder { participant, error: None }
    }

    /// Returns the name.
    #[must_use]
    pub const fn name(&self) -> &ParticipantName {
        &self.name
    }

    /// Returns true if commands of this type can be carried out inside a transaction.
    pub(crate) fn has_handler(&self, command: &MessageType) -> bool {
        matches!(self.routes.get(command), Some(Route::Transactional(_)))
    }

    /// Returns true if commands of this type are carried out by a call.
    fn is_external(&self, command: &Envelope) -> bool {
        matches!(self.routes.get(&command.message_type), Some(Route::External(_)))
    }

    /// Returns true if some commands are carried out by calls that may be made and not recorded.
    fn calls_out(&self) -> bool {
        self.routes.values().any(|route| matches!(route, Route::External(_)))
    }

    /// Returns the services whose facts are handled.
    fn sources(&self) -> BTreeSet<&ParticipantName> {
        let sources = self.routes.values().filter_map(|route| match route {
            Route::Fact { source, .. } => Some(source),
            Route::Transactional(_) | Route::External(_) => None,
        });
        sources.collect()
    }

    /// Returns true if there is a handler for facts of this type of a service.
    fn handles_fact(&self, fact: &MessageType, of: &Topic) -> bool {
        matches!(self.routes.get(fact), Some(Route::Fact { source, .. }) if source.events() == *of)
    }

    /// Returns a fact that is handled, if there is one.
    pub(crate) fn a_fact(&self) -> Option<&MessageType> {
        let mut routes = self.routes.iter();
        routes.find(|(_, route)| matches!(route, Route::Fact { .. })).map(|(fact, _)| fact)
    }

    /// Returns the handler for a message inside a transaction.
    fn handler(&self, message: &Envelope) -> Option<&dyn DynHandle<Conn>> {
        match (self.routes.get(&message.message_type), &message.kind) {
            (Some(Route::Transactional(handler)), Kind::Command(_))
            | (Some(Route::Fact { handler, .. }), Kind::Fact | Kind::Reply(_)) => Some(&**handler),
            _ => None,
        }
    }

    /// Carries out commands, none twice of one saga, and facts, none twice of one key, and answers each in order.
    ///
    /// Those of one type are handed over together.
    pub(crate) async fn carry_out(&self, messages: &[&Envelope], connection: &mut Conn) -> Answers {
        let mut answers: Vec<Option<Answer>> = vec![None; messages.len()];
        let mut facts = Vec::new();
        for indices in by_type(messages) {
            let group: Vec<_> = indices.iter().map(|&index| messages[index]).collect();
            let Some(handler) = self.handler(group[0]) else {
                let no_handler = Answer::no_handler(&group[0].message_type);
                indices.iter().for_each(|&index| answers[index] = Some(no_handler.clone()));
                continue;
            };
            let outcome = handler.handle(&group, connection, self.handler_timeout).await;
            let (answered, told) = outcome.map_err(|failure| {
                let culprit = failure.culprit.map(|index| indices[index]);
                Failure { culprit, ..failure }
            })?;
            indices.iter().zip(answered).for_each(|(&index, it)| answers[index] = Some(it));
            facts.extend(told);
        }
        let answers = answers.into_iter().map(|answer| answer.expect("each index is in one group"));
        Ok((answers.collect(), facts))
    }
}

/// Answers to local commands, in their order, and the facts that handlers told.
pub(crate) type LocalAnswers = Result<(Vec<Answer>, Vec<Record>), LocalFailure>;

/// Why local commands were not carried out; which one failed is not known if there are many.
#[derive(Debug)]
pub(crate) struct LocalFailure {
    pub(crate) outcome: Outcome,
    /// Why the database is to blame, if it is.
    pub(crate) excuse: Option<StoreError>,
}

/// Groups messages that one handler is for.
fn by_type(messages: &[&Envelope]) -> Vec<Vec<usize>> {
    let is_alike = |a: &Envelope, b: &Envelope| {
        a.message_type == b.message_type && discriminant(&a.kind) == discriminant(&b.kind)
    };
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        match groups.iter_mut().find(|group| is_alike(messages[group[0]], message)) {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

/// Builds a [`Participant`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct ParticipantBuilder<Conn> {
    participant: Participant<Conn>,
    error: Option<DefinitionError>,
}

impl<Conn: Send + 'static> ParticipantBuilder<Conn> {
    /// Carries out commands of type `C` with a transactional handler.
    pub fn handle<C: Command>(self, handler: impl Handle<C, Conn>) -> Self {
        self.route::<C>(Route::Transactional(Box::new(Each(handler, PhantomData::<fn(C)>))))
    }

    /// Carries out commands of type `C` with a transactional handler that takes many at once.
    pub fn handle_all<C: Command>(self, handler: impl HandleAll<C, Conn>) -> Self {
        self.route::<C>(Route::Transactional(Box::new(All(handler, PhantomData::<fn(C)>))))
    }

    /// Carries out commands of type `C` by calling another system.
    pub fn handle_external<C: Command>(self, handler: impl HandleExternal<C>) -> Self {
        self.route::<C>(Route::External(Arc::new(External(handler, PhantomData::<fn(C)>))))
    }

    /// Handles facts of type `F`, which another service tells.
    ///
    /// They reach a participant that is [started](Participant::start) on a transport, through the consumer group of its name:
    /// an engine that takes the same facts must have another name, or each would get a part of them.
    pub fn handle_fact<F: Fact>(self, handler: impl HandleFact<F, Conn>) -> Self {
        let name = self.participant.name.clone();
        self.fact::<F>(Box::new(EachFact(name, handler, PhantomData::<fn(F)>)))
    }

    /// Handles facts of type `F` with a handler that takes many at once; otherwise as
    /// [`handle_fact`](Self::handle_fact).
    pub fn handle_all_facts<F: Fact>(self, handler: impl HandleAllFacts<F, Conn>) -> Self {
        let name = self.participant.name.clone();
        self.fact::<F>(Box::new(AllFacts(name, handler, PhantomData::<fn(F)>)))
    }

    /// Sets how long one call of a handler may take. Default: 30 s.
    ///
    /// One that takes longer is dropped at its next `await` and has failed: what it wrote is rolled back, and its
    /// command is tried again as after an error. Other commands wait meanwhile if it has a
    /// transaction; a [call to another system](HandleExternal) holds up the commands of its own saga only.
    pub const fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.participant.handler_timeout = timeout;
        self
    }

    fn fact<F: Fact>(self, handler: Box<dyn DynHandle<Conn>>) -> Self {
        self.insert(F::TYPE, Route::Fact { source: F::SOURCE, handler })
    }

    fn route<C: Command>(mut self, route: Route<Conn>) -> Self {
        let participant = self.participant.name.clone();
        if C::PARTICIPANT != participant {
            let (command, expected) = (C::TYPE, C::PARTICIPANT);
            self.error.get_or_insert(DefinitionError::ForeignCommand {
                participant,
                command,
                expected,
            });
            return self;
        }
        self.insert(C::TYPE, route)
    }

    fn insert(mut self, message: MessageType, route: Route<Conn>) -> Self {
        if self.participant.routes.insert(message.clone(), route).is_some() {
            let participant = self.participant.name.clone();
            self.error.get_or_insert(DefinitionError::DuplicateHandler { participant, message });
        }
        self
    }

    /// Checks the participant and finishes it.
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] if a type of message has two handlers, or a command belongs to another participant.
    pub fn build(self) -> Result<Participant<Conn>, DefinitionError> {
        self.error.map_or(Ok(self.participant), Err)
    }
}

impl<Conn> fmt::Debug for Participant<Conn> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Participant")
            .field("name", &self.name)
            .field("messages", &self.routes.keys().collect::<Vec<_>>())
            .field("handler_timeout", &self.handler_timeout)
            .finish()
    }
}

impl<Conn> fmt::Debug for ParticipantBuilder<Conn> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParticipantBuilder")
            .field("participant", &self.participant)
            .finish_non_exhaustive()
    }
}
