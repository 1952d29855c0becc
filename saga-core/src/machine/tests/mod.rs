//! Every transition, and every illegal one.

mod groups;
mod operator;
mod rules;
mod stored;
mod table;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::machine::{
    Decision, Event, HistoryKind, Operation, OperatorAction, Origin, OutgoingCommand, Progress,
    ReplyEvent, Resolution, Status, StepState, Verdict, decide,
};
use crate::message::Outcome;
use crate::{
    Backoff, Cause, Codec, CodecError, Command, Compensate, CorrelationId, Json, Message,
    MessageId, MessageType, ParticipantName, Payload, RetryPolicy, Saga, SagaData, SagaId,
    SagaName, Step, StepName, Timestamp,
};

const A: Ask<0> = Ask;
const B: Ask<1> = Ask;
const C: Ask<2> = Ask;
const D: Ask<3> = Ask;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

const SAGA: SagaId = SagaId(Uuid::from_u128(0x0190_b5a0_0000_7000_8000_0000_0000_0001));
const START: Timestamp = Timestamp::from_micros(1_721_032_200_000_000);
const DEADLINE: Duration = Duration::from_secs(30);
const RETRY_DELAY: Duration = Duration::from_secs(1);

fn name(text: &str) -> StepName {
    StepName::parse(text).unwrap()
}

/// Allows this many attempts, at most [`RETRY_DELAY`] apart.
const fn attempts(attempts: u32) -> RetryPolicy {
    RetryPolicy::attempts(attempts).backoff(Backoff::fixed(RETRY_DELAY))
}

/// The data: what the replies said, and what the conditions and codecs look at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ledger {
    replies: Vec<u32>,
    holds: bool,
    /// Commands cannot be encoded.
    is_mute: bool,
}

impl SagaData for Ledger {
    const SAGA: SagaName = SagaName::new("test");
    type Codec = Json;
}

/// A step named by its number.
struct Ask<const N: usize>;

impl<const N: usize> Step<Ledger> for Ask<N> {
    const NAME: StepName = StepName::new(NAMES[N]);
    type Command = Asked;

    fn command(&self, data: &Ledger) -> Asked {
        Asked { step: NAMES[N].to_owned(), cause: None, is_mute: data.is_mute }
    }

    fn on_reply(&self, data: &mut Ledger, Answer(reply): Answer) {
        data.replies.push(reply);
    }
}

impl<const N: usize> Compensate<Ledger> for Ask<N> {
    type Compensation = Asked;

    fn compensation(&self, data: &Ledger, cause: &Cause) -> Asked {
        undo(NAMES[N], data, cause)
    }
}

fn undo(step: &str, data: &Ledger, cause: &Cause) -> Asked {
    let by = cause.step().map_or("nobody", StepName::as_str);
    let cause = Some(format!("{} by {by}", cause.code()));
    Asked { step: step.to_owned(), cause, is_mute: data.is_mute }
}

#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    step: String,
    cause: Option<String>,
    is_mute: bool,
}

/// JSON that refuses what is mute.
struct Picky;

impl Codec<Asked> for Picky {
    fn encode(value: &Asked) -> Result<Payload, CodecError> {
        if value.is_mute { Err(CodecError::new("mute")) } else { Json::encode(value) }
    }

    fn decode(bytes: &[u8]) -> Result<Asked, CodecError> {
        Json::decode(bytes)
    }
}

impl Message for Asked {
    const TYPE: MessageType = MessageType::new("Asked");
    type Codec = Picky;
}

impl Command for Asked {
    type Reply = Answer;
    const PARTICIPANT: ParticipantName = ParticipantName::new("participant");
}

#[derive(Serialize, Deserialize)]
struct Answer(u32);

impl Message for Answer {
    const TYPE: MessageType = MessageType::new("Answer");
    type Codec = Json;
}

fn origin() -> Origin {
    Origin { correlation: CorrelationId::from(SAGA), causation: None, traceparent: None }
}

/// One saga that is driven from outside. Between two events it is stored and read back.
struct Run {
    saga: Saga<Ledger>,
    progress: Progress,
    now: Timestamp,
    /// The commands of the last decision.
    sent: Vec<OutgoingCommand>,
    /// What the last decision noted.
    noted: Vec<HistoryKind>,
    /// The same over all decisions.
    history: Vec<HistoryKind>,
}

impl Run {
    fn start(saga: Saga<Ledger>) -> Self {
        Self::start_with(saga, Ledger::default())
    }

    fn start_with(saga: Saga<Ledger>, data: Ledger) -> Self {
        let progress = Progress::start(saga.definition(), SAGA, origin(), data);
        let mut run = Self {
            saga,
            progress,
            now: START,
            sent: Vec::new(),
            noted: Vec::new(),
            history: Vec::new(),
        };
        assert_eq!(run.decide(Event::Started), Verdict::Applied);
        run
    }

    /// Decides, checks that the decision is one that can be stored and read back, and keeps it.
    fn decide(&mut self, event: Event) -> Verdict {
        let progress = stored(&self.saga, &self.progress);
        let Decision { progress, verdict, commands, history } =
            decide(self.saga.definition(), progress, event, self.now);
        if verdict != Verdict::Applied {
            assert_same(&self.saga, &self.progress, &progress);
            assert!(commands.is_empty() && history.is_empty(), "{verdict:?} changes nothing");
        }
        self.progress = progress;
        self.sent = commands;
        self.noted = history.iter().map(|entry| entry.kind).collect();
        self.history.extend(&self.noted);
        verdict
    }

    fn reply(&mut self, step: &str, outcome: Outcome) -> Verdict {
        let attempt = self.view(step).attempt;
        self.reply_to(self.command(step), attempt, outcome)
    }

    fn undo_reply(&mut self, step: &str, outcome: Outcome) -> Verdict {
        let attempt = self.view(step).attempt;
        self.reply_to(self.compensation(step), attempt, outcome)
    }

    fn reply_to(&mut self, command: MessageId, attempt: u32, outcome: Outcome) -> Verdict {
        self.decide(Event::Reply(ReplyEvent { command, attempt, outcome, payload: answer(7) }))
    }

    fn succeed(&mut self, step: &str) {
        assert_eq!(self.reply(step, Outcome::Succeeded), Verdict::Applied, "{step}");
    }

    fn reject(&mut self, step: &str) {
        assert_eq!(self.reply(step, rejected()), Verdict::Applied, "{step}");
    }

    fn undone(&mut self, step: &str) {
        assert_eq!(self.undo_reply(step, Outcome::Succeeded), Verdict::Applied, "{step}");
    }

    /// Lets time pass until a timer fires.
    fn wait(&mut self) {
        self.now = self.progress.next_due().expect("a timer runs");
        assert_eq!(
            self.decide(Event::TimerFired { reachable_since: Timestamp::default() }),
            Verdict::Applied
        );
    }

    fn operate(&mut self, action: OperatorAction) -> Verdict {
        let (by, reason) = ("ada".to_owned(), "looked into it".to_owned());
        self.decide(Event::Operator(Operation { by, reason, action }))
    }

    fn command(&self, step: &str) -> MessageId {
        super::command::command_id(self.progress.saga(), &name(step))
    }

    fn compensation(&self, step: &str) -> MessageId {
        super::command::compensation_id(self.progress.saga(), &name(step))
    }

    fn view(&self, step: &str) -> super::StepView {
        let mut steps = self.progress.steps(self.saga.definition());
        steps.find(|view| view.name.as_str() == step).expect("the step exists")
    }

    fn state(&self, step: &str) -> StepState {
        self.view(step).state
    }

    fn status(&self) -> Status {
        self.progress.status()
    }

    fn data(&self) -> &Ledger {
        self.progress.data().expect("the data is a ledger")
    }

    fn failure(&self) -> (Option<&str>, &str) {
        let failure = self.progress.failure().expect("it is parked");
        (failure.step.as_ref().map(StepName::as_str), &failure.code)
    }

    /// Returns what the last decision sent: `a` is the command of that step, `~a` its compensation.
    fn sent(&self) -> String {
        sent(&self.sent)
    }
}

fn sent(commands: &[OutgoingCommand]) -> String {
    let names = commands.iter().map(|command| {
        let asked: Asked = Json::decode(command.payload.as_bytes()).unwrap();
        format!("{}{}", if asked.cause.is_some() { "~" } else { "" }, command.step)
    });
    names.collect::<Vec<_>>().join(" ")
}

fn stored(saga: &Saga<Ledger>, progress: &Progress) -> Progress {
    if progress.direction == super::progress::Direction::NotStarted {
        // Stored for the first time when it has started.
        let data = progress.data::<Ledger>().expect("the data is a ledger").clone();
        return Progress::start(
            saga.definition(),
            progress.saga(),
            progress.origin().clone(),
            data,
        );
    }
    let bytes = progress.encode(saga.definition()).unwrap();
    let stored =
        Progress::decode(saga.definition(), progress.saga(), progress.status(), bytes).unwrap();
    assert_same(saga, progress, &stored);
    stored
}

fn assert_same(saga: &Saga<Ledger>, one: &Progress, other: &Progress) {
    assert_eq!(one.saga(), other.saga());
    assert_eq!(one.status(), other.status());
    assert_eq!(one.direction, other.direction);
    assert_eq!(one.failure(), other.failure());
    assert_eq!(one.cause(), other.cause());
    assert_eq!(one.origin(), other.origin());
    assert_eq!(one.data::<Ledger>(), other.data::<Ledger>());
    assert_eq!(one.next_due(), other.next_due());
    let definition = saga.definition();
    assert!(one.steps(definition).eq(other.steps(definition)));
    let private = |progress: &Progress| -> Vec<_> {
        progress.steps.iter().map(|step| (step.command, step.succeeded)).collect()
    };
    assert_eq!(private(one), private(other));
}

fn answer(reply: u32) -> Payload {
    Json::encode(&Answer(reply)).unwrap()
}

fn rejected() -> Outcome {
    Outcome::Rejected("no".to_owned())
}

fn failed() -> Outcome {
    Outcome::FailedTransiently("busy".to_owned())
}

fn failed_for_good() -> Outcome {
    Outcome::FailedPermanently("bug".to_owned())
}

fn resolve_succeeded() -> OperatorAction {
    OperatorAction::Resolve(Resolution::Succeeded(answer(9)))
}

fn resolve_rejected() -> OperatorAction {
    OperatorAction::Resolve(Resolution::Rejected("no".to_owned()))
}
