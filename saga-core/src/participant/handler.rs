//! Handlers: how a participant carries out a command.

use std::fmt;
use std::future::Future;

use crate::message::Envelope;
use crate::store::fact_record;
use crate::transport::Record;
use crate::{BoxError, Command, Fact, IdempotencyKey, MessageId, ParticipantName, Reply, SagaId};

/// What a handler answers: the reply, a rejection, or an error that means "ask again".
pub type HandlerResult<R> = Result<Reply<R>, HandlerError>;

/// Carries out one kind of command through an open transaction of the participant's own database.
///
/// What the handler writes through [`Context::connection`] is committed together with the record
/// that the command was handled and with the reply. A crash before that commit leaves nothing and
/// the command comes again; after it the command is recognised and gets the recorded reply. So the
/// effect happens once.
///
/// A [rejection](Reply::Rejected) is a business answer: what was written before it *is* committed,
/// so decide first and write then, or undo what you wrote.
///
/// # Examples
///
/// ```
/// use saga_core::{Context, Handle, HandlerResult, Reply};
/// # use saga_core::{Command, Json, Message, MessageType, ParticipantName};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] struct TakeOne;
/// # impl Message for TakeOne { const TYPE: MessageType = MessageType::new("TakeOne"); type Codec = Json; }
/// # impl Command for TakeOne { type Reply = Left; const PARTICIPANT: ParticipantName = ParticipantName::new("stock"); }
/// # #[derive(Serialize, Deserialize)] struct Left(u32);
/// # impl Message for Left { const TYPE: MessageType = MessageType::new("Left"); type Codec = Json; }
/// struct Stock;
///
/// // The connection is whatever the database of the participant hands out; here it is a number in memory.
/// impl Handle<TakeOne, u32> for Stock {
///     async fn handle(&self, _: TakeOne, cx: &mut Context<'_, u32>) -> HandlerResult<Left> {
///         let left = cx.connection();
///         if *left == 0 {
///             return Ok(Reply::rejected("out-of-stock"));
///         }
///         *left -= 1;
///         Ok(Reply::succeeded(Left(*left)))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle `{C}` on a `{Conn}`",
    note = "implement `Handle<{C}, {Conn}>` for it; `{Conn}` is the connection of the participant's store"
)]
pub trait Handle<C: Command, Conn>: Send + Sync + 'static {
    /// Carries out a command.
    ///
    /// # Errors
    ///
    /// Any error rolls back what was written. It is tried again, first at once and then by the
    /// saga's policy; [`HandlerError::terminal`] gives up and parks the saga.
    fn handle(
        &self,
        command: C,
        cx: &mut Context<'_, Conn>,
    ) -> impl Future<Output = HandlerResult<C::Reply>> + Send;
}

/// Carries out many commands of one kind at once, with one statement instead of one each.
///
/// Commands that arrive together are handed over together; there is never more than one of a saga among them.
pub trait HandleAll<C: Command, Conn>: Send + Sync + 'static {
    /// Carries out the commands and answers each, in order.
    ///
    /// # Errors
    ///
    /// Any error rolls back all of them; they are then tried in smaller groups, down to single ones.
    fn handle_all(
        &self,
        commands: Vec<C>,
        cx: &mut Context<'_, Conn>,
    ) -> impl Future<Output = Result<Vec<Reply<C::Reply>>, HandlerError>> + Send;
}

/// Carries out one kind of command by calling another system, outside any transaction.
///
/// The call may be made more than once: after a crash between the call and its record, after a
/// time-out, or when its partition is handed to another process while it is made. The key is the same
/// each time; hand it to the other system so that it can tell.
///
/// Up to 512 calls are made at once, never two of one saga. One that takes long holds up the commands
/// of its own saga and no others. Once it is answered, the answer is recorded, and a duplicate of the
/// command gets it again without a call. A shutdown waits up to 4 s for the calls that are being made.
///
/// A compensation is called for unless it is on record that its command was refused: a crash may
/// have come between a call and its record, so be ready to undo what was never done.
pub trait HandleExternal<C: Command>: Send + Sync + 'static {
    /// Makes the call. One that takes longer than [`handler_timeout`](crate::ParticipantBuilder::handler_timeout) is given up and tried again.
    ///
    /// # Errors
    ///
    /// As [`Handle::handle`]; there is nothing to roll back.
    fn call(
        &self,
        command: C,
        key: IdempotencyKey,
    ) -> impl Future<Output = HandlerResult<C::Reply>> + Send;
}

/// What a handler is given beside the command.
pub struct Context<'a, Conn> {
    pub(super) connection: &'a mut Conn,
    pub(super) command: &'a Envelope,
    pub(super) saga: SagaId,
    pub(super) attempt: u32,
    pub(super) participant: ParticipantName,
    pub(super) facts: &'a mut Vec<Record>,
}

impl<Conn> Context<'_, Conn> {
    /// Returns the connection, inside the open transaction.
    pub const fn connection(&mut self) -> &mut Conn {
        self.connection
    }

    /// Returns the saga that asks; of the first command, if there are many.
    #[must_use]
    pub const fn saga(&self) -> SagaId {
        self.saga
    }

    /// Returns the id of the command, the same over all its attempts; of the first one, if there are many.
    #[must_use]
    pub const fn command_id(&self) -> MessageId {
        self.command.id
    }

    /// Returns which attempt this is, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Tells a fact, published under `key` if and only if the transaction commits.
    ///
    /// # Errors
    ///
    /// [`HandlerError`] if the fact cannot be encoded, is too large, or is another service's to tell.
    pub fn publish<F: Fact>(&mut self, fact: &F, key: &str) -> Result<(), HandlerError> {
        self.facts.push(fact_of(&self.participant, fact, key, self.command)?);
        Ok(())
    }
}

/// Makes the record of a fact that a participant tells because of a message.
pub(super) fn fact_of<F: Fact>(
    participant: &ParticipantName,
    fact: &F,
    key: &str,
    cause: &Envelope,
) -> Result<Record, HandlerError> {
    if F::SOURCE != *participant {
        let (fact, source) = (F::TYPE, F::SOURCE);
        let problem = format!("`{fact}` is a fact of `{source}`, not of `{participant}`");
        return Err(HandlerError::terminal(problem));
    }
    fact_record(fact, key, Some(cause)).map_err(HandlerError::terminal)
}

/// Why a handler could not carry out a command.
///
/// Made by `?` from any error; then the command is tried again. Giving up is explicit:
///
/// ```
/// use saga_core::{HandlerError, Terminal as _};
///
/// fn amount(text: &str) -> Result<u32, HandlerError> {
///     // No retry will make a number of it.
///     text.parse::<u32>().terminal()
/// }
/// assert!(amount("x").unwrap_err().is_terminal());
/// ```
pub struct HandlerError {
    source: BoxError,
    is_terminal: bool,
}

impl HandlerError {
    /// Gives up: a command is not tried again, and its saga parks; a fact is set aside.
    pub fn terminal(source: impl Into<BoxError>) -> Self {
        Self { source: source.into(), is_terminal: true }
    }

    /// Returns the error that the handler returned.
    pub(crate) const fn source(&self) -> &BoxError {
        &self.source
    }

    /// Returns true if the message is not to be tried again.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        self.is_terminal
    }
}

// `HandlerError` is no `Error` itself, so that `?` can make it from every error.
impl<E: Into<BoxError>> From<E> for HandlerError {
    fn from(source: E) -> Self {
        Self { source: source.into(), is_terminal: false }
    }
}

impl fmt::Display for HandlerError {
    /// Prints the error with its causes: it is all that the saga's history keeps of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.source, f)?;
        let mut cause = self.source.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Turns an error into one that is not tried again.
pub trait Terminal<T> {
    /// Gives up on an error.
    ///
    /// # Errors
    ///
    /// The same error, as [`HandlerError::terminal`].
    fn terminal(self) -> Result<T, HandlerError>;
}

impl<T, E: Into<BoxError>> Terminal<T> for Result<T, E> {
    fn terminal(self) -> Result<T, HandlerError> {
        self.map_err(HandlerError::terminal)
    }
}

impl<Conn> fmt::Debug for Context<'_, Conn> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("saga", &self.saga)
            .field("command", &self.command.id)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
