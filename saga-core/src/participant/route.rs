//! A handler without its types: what a participant looks up by the type of a command.

use std::future::Future;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, poll};
use opentelemetry::trace::FutureExt as _;
use tracing::{Instrument as _, Span, info_span};

use super::barrier::headers;
use super::handler::{Context, Handle, HandleAll, HandleExternal, HandlerError};
use crate::error::panic_text;
use crate::message::{
    CommandHeaders, Envelope, FAILURE_BYTES_MAX, Message, Outcome, PAYLOAD_BYTES_MAX,
};
use crate::telemetry;
use crate::transport::Record;
use crate::{Codec, Command, IdempotencyKey, MessageType, ParticipantName, Payload, Reply};

/// How commands or facts of one type are handled.
pub(super) enum Route<Conn> {
    /// In the participant's transaction.
    Transactional(Box<dyn DynHandle<Conn>>),
    /// Outside any transaction.
    External(Arc<dyn DynCall>),
    /// Facts of another service, in the participant's transaction.
    Fact { source: ParticipantName, handler: Box<dyn DynHandle<Conn>> },
}

/// What a participant says to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    /// The type and payload of the reply; meaningful if it succeeded.
    pub(crate) message_type: MessageType,
    pub(crate) payload: Payload,
}

/// Answers for a group of commands, and the facts that were told on the way.
pub(crate) type Answers = Result<(Vec<Answer>, Vec<Record>), Failure>;

/// Why a group of commands was not carried out.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: HandlerError,
    /// Which of them is to blame, if that is known.
    pub(super) culprit: Option<usize>,
    /// How often that was tried.
    pub(super) attempts: u32,
}

pub(super) trait DynHandle<Conn>: Send + Sync {
    /// Carries out commands of one type, none twice of one saga, or handles facts, none twice of one key;
    /// each call of the handler within a limit.
    fn handle<'a>(
        &'a self,
        commands: &'a [&'a Envelope],
        connection: &'a mut Conn,
        limit: Duration,
    ) -> BoxFuture<'a, Answers>;
}

pub(super) trait DynCall: Send + Sync {
    fn call<'a>(
        &'a self,
        command: &'a Envelope,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Answer, Failure>>;
}

/// Handles commands one by one.
pub(super) struct Each<C, H>(pub(super) H, pub(super) PhantomData<fn(C)>);

/// Handles commands all at once.
pub(super) struct All<C, H>(pub(super) H, pub(super) PhantomData<fn(C)>);

/// Calls another system.
pub(super) struct External<C, H>(pub(super) H, pub(super) PhantomData<fn(C)>);

impl<C: Command, Conn: Send, H: Handle<C, Conn>> DynHandle<Conn> for Each<C, H> {
    fn handle<'a>(
        &'a self,
        commands: &'a [&'a Envelope],
        connection: &'a mut Conn,
        limit: Duration,
    ) -> BoxFuture<'a, Answers> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(commands.len());
            let mut facts = Vec::new();
            let work = caught(async {
                for envelope in commands {
                    let command = decode::<C>(envelope)?;
                    let mut cx = context::<C, _>(envelope, connection, &mut facts);
                    let work = inside(span(envelope), envelope, self.0.handle(command, &mut cx));
                    answers.push(answer::<C>(stay_awake(work, limit).await??)?);
                }
                Ok(())
            });
            match work.await {
                Ok(()) => Ok((answers, facts)),
                Err(failure) => Err(Failure { culprit: Some(answers.len()), ..failure }),
            }
        })
    }
}

impl<C: Command, Conn: Send, H: HandleAll<C, Conn>> DynHandle<Conn> for All<C, H> {
    fn handle<'a>(
        &'a self,
        commands: &'a [&'a Envelope],
        connection: &'a mut Conn,
        limit: Duration,
    ) -> BoxFuture<'a, Answers> {
        Box::pin(caught(async move {
            let decoded: Result<Vec<C>, _> = commands.iter().map(|it| decode::<C>(it)).collect();
            let mut facts = Vec::new();
            let mut cx = context::<C, _>(commands[0], connection, &mut facts);
            let work = self.0.handle_all(decoded?, &mut cx);
            let work = inside(span(commands[0]), commands[0], work);
            let replies = within(limit, work).await??;
            if replies.len() != commands.len() {
                let (got, want) = (replies.len(), commands.len());
                let message = format!("handler answered {got} of {want} commands");
                return Err(Failure::terminal(message));
            }
            let answers: Result<Vec<Answer>, _> = replies.into_iter().map(answer::<C>).collect();
            Ok((answers?, facts))
        }))
    }
}

impl<C: Command, H: HandleExternal<C>> DynCall for External<C, H> {
    fn call<'a>(
        &'a self,
        envelope: &'a Envelope,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(caught(async move {
            let command = decode::<C>(envelope)?;
            let key = IdempotencyKey::from(envelope.id);
            let work = inside(span(envelope), envelope, self.0.call(command, key));
            answer::<C>(within(limit, work).await??)
        }))
    }
}

/// How often a call of a handler is looked at before the thread goes to sleep over it.
const LOOKS: u16 = 256;

/// Awaits a handler that takes one command, and stays awake while it does.
///
/// Its answer is a round trip to the database away, some 40 µs, and to wake a thread that sleeps costs
/// about as much again, while a transaction is open. All else on this runtime gets its turn between
/// two looks. A handler that takes long is slept over after some 0.1 ms.
pub(super) async fn stay_awake<F: Future>(call: F, limit: Duration) -> Result<F::Output, Failure> {
    let mut call = pin!(call);
    for _ in 0..LOOKS {
        if let Poll::Ready(output) = poll!(call.as_mut()) {
            return Ok(output);
        }
        tokio::task::yield_now().await;
    }
    within(limit, call).await
}

/// What a handler logs names the command.
fn span(command: &Envelope) -> Span {
    let saga = headers(command);
    info_span!("command", name = %command.message_type, id = %command.id, saga = %saga.saga, attempt = saga.attempt)
}

/// Lets what a handler logs name the message, and what it calls join the message's trace.
pub(super) fn inside<F: Future>(
    span: Span,
    message: &Envelope,
    work: F,
) -> impl Future<Output = F::Output> + use<F> {
    let parent = telemetry::parent(message.traceparent.as_ref());
    async move {
        match parent {
            Some(parent) => work.with_context(parent).await,
            None => work.await,
        }
    }
    .instrument(span)
}

/// Gives a handler up that takes longer than its limit.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = T>,
) -> Result<T, Failure> {
    let late = |_| Failure::transient(format!("no answer within {limit:?}"));
    tokio::time::timeout(limit, call).await.map_err(late)
}

/// Turns a panic into a failure of this one group; the task lives on.
pub(super) async fn caught<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
        let message = format!("handler panicked: {}", panic_text(&*panic));
        Err(Failure::terminal(message))
    })
}

pub(super) fn decode<M: Message>(envelope: &Envelope) -> Result<M, Failure> {
    M::Codec::decode(envelope.payload.as_bytes()).map_err(|error| {
        Failure::terminal(format!("`{}` cannot be decoded: {error}", envelope.message_type))
    })
}

fn answer<C: Command>(reply: Reply<C::Reply>) -> Result<Answer, Failure> {
    let message_type = <C::Reply as Message>::TYPE;
    match reply {
        Reply::Succeeded(reply) => {
            let payload = <C::Reply as Message>::Codec::encode(&reply)
                .map_err(|error| Failure::terminal(format!("reply cannot be encoded: {error}")))?;
            if payload.0.len() > PAYLOAD_BYTES_MAX {
                let bytes = payload.0.len();
                let message =
                    format!("reply has {bytes} bytes; at most {PAYLOAD_BYTES_MAX} can be sent");
                return Err(Failure::terminal(message));
            }
            Ok(Answer { outcome: Outcome::Succeeded, message_type, payload })
        }
        Reply::Rejected(rejection) => {
            let outcome = Outcome::Rejected(rejection.code().to_owned());
            Ok(Answer { outcome, message_type, payload: Payload::default() })
        }
    }
}

fn context<'a, C: Command, Conn>(
    command: &'a Envelope,
    connection: &'a mut Conn,
    facts: &'a mut Vec<Record>,
) -> Context<'a, Conn> {
    let CommandHeaders { saga, attempt, .. } = *headers(command);
    let participant = C::PARTICIPANT;
    Context { connection, command, saga, attempt, participant, facts }
}

impl Failure {
    /// It may succeed later.
    pub(super) fn transient(message: String) -> Self {
        HandlerError::from(message).into()
    }

    /// It would fail again.
    pub(super) fn terminal(message: String) -> Self {
        HandlerError::terminal(message).into()
    }

    /// Returns the outcome that a saga is told.
    pub(crate) fn outcome(&self) -> Outcome {
        let mut message = self.error.to_string();
        message.truncate(message.floor_char_boundary(FAILURE_BYTES_MAX));
        match self.error.is_terminal() {
            true => Outcome::FailedPermanently(message),
            false => Outcome::FailedTransiently(message),
        }
    }
}

impl From<HandlerError> for Failure {
    fn from(error: HandlerError) -> Self {
        Self { error, culprit: None, attempts: 1 }
    }
}
