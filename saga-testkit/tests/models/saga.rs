//! A saga and its participants behind a network that loses nothing, and doubles, delays and reorders without limit.
//!
//! The orchestrator is the real one: `machine::decide`, asked once for each state and event and
//! remembered. The participants are described: an inbox, and the barrier that a compensation sets. What was
//! sent once may arrive at any time and any number of times, so that the network is a set that
//! only grows. Timers fire at any time; somebody cancels and retries a parked saga once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use saga_core::definition::Definition;
use saga_core::machine::{
    Decision, Event, Operation, OperatorAction, Origin, OutgoingCommand, Progress, ReplyEvent,
    Verdict, decide,
};
use saga_core::message::Outcome;
use saga_core::{
    Backoff, Cause, Command, Compensate, CorrelationId, Json, Message, MessageId, MessageType,
    ParticipantName, Payload, RetryPolicy, Saga, SagaData, SagaId, SagaName, Status, Step,
    StepName, Timestamp,
};
use serde::{Deserialize, Serialize};
use stateright::{Model, Property};
use std::time::Duration;
use uuid::Uuid;

const ID: SagaId = SagaId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));

#[derive(Serialize, Deserialize)]
struct Order {}

impl SagaData for Order {
    const SAGA: SagaName = SagaName::new("order");
    type Codec = Json;
}

macro_rules! messages {
    ($($name:ident),*) => {$(
        #[derive(Serialize, Deserialize)]
        struct $name {}

        impl Message for $name {
            const TYPE: MessageType = MessageType::new(stringify!($name));
            type Codec = Json;
        }
    )*};
}

messages!(Do, Undo, Done);

impl Command for Do {
    type Reply = Done;
    const PARTICIPANT: ParticipantName = ParticipantName::new("doer");
}

impl Command for Undo {
    type Reply = Done;
    const PARTICIPANT: ParticipantName = ParticipantName::new("doer");
}

macro_rules! steps {
    ($($step:ident $name:literal),*) => {$(
        struct $step;

        impl Step<Order> for $step {
            const NAME: StepName = StepName::new($name);
            type Command = Do;

            fn command(&self, _: &Order) -> Do {
                Do {}
            }
        }

        impl Compensate<Order> for $step {
            type Compensation = Undo;

            fn compensation(&self, _: &Order, _: &Cause) -> Undo {
                Undo {}
            }
        }
    )*};
}

steps!(First "0", Second "1", Third "2", Last "3");

/// How many steps come before the pivot, the last one.
const PIVOT: usize = 3;

/// The first step is asked for again once it was not answered or has failed; in larger models all are.
fn definition() -> Arc<Definition> {
    let policy = |attempts: u8| {
        RetryPolicy::attempts(attempts.into()).backoff(Backoff::fixed(Duration::from_secs(1)))
    };
    let (first, others) = (policy(2), policy(1 + super::size()));
    Saga::<Order>::builder()
        .step(First)
        .retry(first)
        .compensation_retry(others)
        .parallel(|both| both.step(Second).step(Third))
        .retry(others)
        .compensation_retry(others)
        .pivot(Last)
        .retry(others)
        .build()
        .map(|saga| Arc::clone(saga.definition()))
        .expect("a sound saga")
}

/// What the participants do wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    NoInbox,
    NoBarrier,
}

struct SagaModel {
    definition: Arc<Definition>,
    known: Mutex<Known>,
    defect: Option<Defect>,
}

/// What the machine has said so far, by numbers that fit into a state.
#[derive(Default)]
struct Known {
    progress: Vec<(Status, Bytes)>,
    numbers: HashMap<(Status, Bytes), u16>,
    /// Each attempt at a command is one of its own.
    sent: Vec<Arc<OutgoingCommand>>,
    decisions: HashMap<(u16, Observed), Option<Reached>>,
}

/// What a decision leads to.
#[derive(Debug, Clone, Copy)]
struct Reached {
    progress: u16,
    status: Status,
    has_timer: bool,
    sent: u32,
}

/// Where everything stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    /// The saga's progress.
    progress: u16,
    status: Status,
    has_timer: bool,
    /// The attempts that were sent.
    sent: u32,
    /// The replies that were sent: for each attempt the outcomes.
    replies: [u32; 3],
    /// The commands that are on record as done, and as refused, by step; those of compensations after them.
    done: u8,
    refused: u8,
    /// Those with an effect.
    effects: u8,
    has_cancelled: bool,
    has_retried: bool,
    flaws: u8,
    seen: u8,
}

const TWICE: u8 = 1;
const AFTER_ITS_COMPENSATION: u8 = 2;
const OUT_OF_ORDER: u8 = 4;
const AFTER_THE_END: u8 = 8;

const EMPTY_COMPENSATION: u8 = 1;
const BARRED: u8 = 2;
const LATE_REPLY: u8 = 4;

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Result {
    Succeeded,
    Rejected,
    Failed,
}

impl Result {
    const ALL: [Self; 3] = [Self::Succeeded, Self::Rejected, Self::Failed];

    fn outcome(self) -> Outcome {
        match self {
            Self::Succeeded => Outcome::Succeeded,
            Self::Rejected => Outcome::Rejected("no".into()),
            Self::Failed => Outcome::FailedTransiently("busy".into()),
        }
    }
}

/// What the orchestrator observes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Observed {
    Reply(u8, Result),
    Timer,
    Cancel,
    Retry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    /// An attempt arrives; if it is carried out, it comes to this.
    Carry(u8, Result),
    Observe(Observed),
}

impl SagaModel {
    fn new(defect: Option<Defect>) -> Self {
        Self { definition: definition(), known: Mutex::default(), defect }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().expect("no thread panics here")
    }

    /// Asks the machine, once for each question.
    fn decide(&self, progress: u16, observed: Observed) -> Option<Reached> {
        let mut known = self.known();
        if let Some(decision) = known.decisions.get(&(progress, observed)) {
            return *decision;
        }
        let (status, bytes) = known.progress[usize::from(progress)].clone();
        let before = Progress::decode(&self.definition, ID, status, bytes).expect("it was encoded");
        let now = match observed {
            Observed::Timer => before.next_due().unwrap_or_default(),
            _ => Timestamp::default(),
        };
        let event = known.event(observed);
        let decision = known.learn(&self.definition, decide(&self.definition, before, event, now));
        known.decisions.insert((progress, observed), decision);
        decision
    }

    fn attempt(&self, number: u8) -> Arc<OutgoingCommand> {
        Arc::clone(&self.known().sent[usize::from(number)])
    }

    /// A participant handles an attempt.
    fn carry(&self, mut state: State, number: u8, result: Result) -> Option<State> {
        let attempt = self.attempt(number);
        let step: u8 = attempt.step.as_str().parse().expect("a number");
        let (action, compensation) = (1_u8 << step, 1_u8 << (step + 4));
        let ours = if attempt.compensates.is_some() { compensation } else { action };
        let is_known = self.defect != Some(Defect::NoInbox);
        let result = if is_known && state.done & ours != 0 {
            Result::Succeeded
        } else if is_known && state.refused & ours != 0 {
            state.seen |= BARRED;
            Result::Rejected
        } else if ours == compensation && state.done & action == 0 {
            state.seen |= EMPTY_COMPENSATION;
            if self.defect != Some(Defect::NoBarrier) {
                state.refused |= action;
            }
            state.done |= compensation;
            Result::Succeeded
        } else {
            match result {
                // A compensation is never refused.
                Result::Rejected if ours == compensation => return None,
                Result::Rejected => state.refused |= ours,
                Result::Succeeded => Self::take_effect(&mut state, step, ours),
                Result::Failed => {}
            }
            result
        };
        state.replies[result as usize] |= 1 << number;
        Some(state)
    }

    fn take_effect(state: &mut State, step: u8, ours: u8) {
        let compensation = 1_u8 << (step + 4);
        if state.effects & ours != 0 {
            state.flaws |= TWICE;
        }
        if ours != compensation && state.done & compensation != 0 {
            state.flaws |= AFTER_ITS_COMPENSATION;
        }
        // The second and the third are parallel: only the first must be undone after both.
        let later = if step == 0 { 0b0110 } else { 0 };
        let stands = state.effects & !(state.effects >> 4) & later;
        if ours == compensation && stands != 0 {
            state.flaws |= OUT_OF_ORDER;
        }
        state.effects |= ours;
        state.done |= ours;
    }

    fn observe(&self, mut state: State, observed: Observed) -> State {
        match observed {
            Observed::Cancel => state.has_cancelled = true,
            Observed::Retry => state.has_retried = true,
            _ => {}
        }
        let before = state.status;
        if matches!(observed, Observed::Reply(..)) && before.is_final() {
            state.seen |= LATE_REPLY;
        }
        if let Some(reached) = self.decide(state.progress, observed) {
            if before.is_final() {
                state.flaws |= AFTER_THE_END;
            }
            state.go_on(reached);
        }
        state
    }
}

impl Known {
    fn number(&mut self, status: Status, bytes: Bytes) -> u16 {
        let next = u16::try_from(self.progress.len()).expect("not so many");
        let number = *self.numbers.entry((status, bytes.clone())).or_insert(next);
        if number == next {
            self.progress.push((status, bytes));
        }
        number
    }

    fn event(&self, observed: Observed) -> Event {
        match observed {
            Observed::Timer => Event::TimerFired { reachable_since: Timestamp::default() },
            Observed::Cancel => Event::CancelRequested,
            Observed::Retry => Event::Operator(Operation {
                by: "ada".into(),
                reason: "once more".into(),
                action: OperatorAction::Retry,
            }),
            Observed::Reply(number, result) => {
                let attempt = &self.sent[usize::from(number)];
                Event::Reply(ReplyEvent {
                    command: attempt.id,
                    attempt: attempt.attempt,
                    outcome: result.outcome(),
                    payload: Payload::from(b"{}".to_vec()),
                })
            }
        }
    }

    /// Returns the numbers of the new progress and of what is sent; nothing if nothing changes.
    fn learn(&mut self, definition: &Definition, decision: Decision) -> Option<Reached> {
        if decision.verdict != Verdict::Applied {
            return None;
        }
        let Decision { progress, commands, .. } = decision;
        let mut sent = 0;
        for command in commands {
            let is_it =
                |it: &Arc<OutgoingCommand>| (it.id, it.attempt) == (command.id, command.attempt);
            let number = self.sent.iter().position(is_it).unwrap_or(self.sent.len());
            if number == self.sent.len() {
                self.sent.push(Arc::new(command));
            }
            sent |= 1_u32.checked_shl(u32::try_from(number).expect("small")).expect("32 at most");
        }
        let bytes = progress.encode(definition).expect("plain data");
        let (status, has_timer) = (progress.status(), progress.next_due().is_some());
        Some(Reached { progress: self.number(status, bytes), status, has_timer, sent })
    }
}

impl Model for SagaModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let correlation = CorrelationId::from(MessageId(ID.0));
        let origin = Origin { correlation, causation: None, traceparent: None };
        let progress = Progress::start(&self.definition, ID, origin, Order {});
        let decision = decide(&self.definition, progress, Event::Started, Timestamp::default());
        let started = self.known().learn(&self.definition, decision);
        let mut state = State {
            progress: 0,
            status: Status::Running,
            has_timer: false,
            sent: 0,
            replies: [0; 3],
            done: 0,
            refused: 0,
            effects: 0,
            has_cancelled: false,
            has_retried: false,
            flaws: 0,
            seen: 0,
        };
        state.go_on(started.expect("it starts"));
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for number in (0..32_u8).filter(|number| state.sent & (1 << number) != 0) {
            actions.extend(Result::ALL.map(|result| Action::Carry(number, result)));
        }
        for result in Result::ALL {
            let replies = state.replies[result as usize];
            let replies = (0..32_u8).filter(|number| replies & (1 << number) != 0);
            actions.extend(replies.map(|it| Action::Observe(Observed::Reply(it, result))));
        }
        if state.has_timer {
            actions.push(Action::Observe(Observed::Timer));
        }
        if !state.has_cancelled {
            actions.push(Action::Observe(Observed::Cancel));
        }
        if !state.has_retried && state.status == Status::Parked {
            actions.push(Action::Observe(Observed::Retry));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let next = match action {
            Action::Carry(number, result) => self.carry(*state, number, result)?,
            Action::Observe(observed) => self.observe(*state, observed),
        };
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(I4, |_, state: &State| state.flaws & TWICE == 0),
            Property::always(I9, |_, state: &State| state.flaws & AFTER_ITS_COMPENSATION == 0),
            Property::always(I8_ORDER, |_, state: &State| state.flaws & OUT_OF_ORDER == 0),
            Property::always(I1, |_, state: &State| state.flaws & AFTER_THE_END == 0),
            Property::always(I8, |_, state: &State| state.is_all_or_nothing()),
            Property::sometimes("completes", |_, state: &State| state.status == Status::Completed),
            Property::sometimes("is compensated", |_, state: &State| {
                state.status == Status::Compensated
            }),
            Property::sometimes("parks", |_, state: &State| state.status == Status::Parked),
            Property::sometimes("an empty compensation", |_, state: &State| {
                state.seen & EMPTY_COMPENSATION != 0
            }),
            Property::sometimes("an action is barred", |_, state: &State| state.seen & BARRED != 0),
            Property::sometimes("a late reply", |_, state: &State| state.seen & LATE_REPLY != 0),
        ]
    }
}

const I1: &str = "I1: nothing changes after the end";
const I4: &str = "I4: no effect twice";
const I8: &str = "I8: all or nothing";
const I8_ORDER: &str = "I8: undone in reverse";
const I9: &str = "I9: no effect after its compensation";

impl State {
    const fn go_on(&mut self, reached: Reached) {
        let Reached { progress, status, has_timer, sent } = reached;
        (self.progress, self.status, self.has_timer) = (progress, status, has_timer);
        self.sent |= sent;
    }

    const fn is_all_or_nothing(&self) -> bool {
        let (actions, undone) = (self.effects & 0b1111, self.effects >> 4);
        match self.status {
            Status::Completed => actions == 0b1111 && undone == 0,
            Status::Compensated => actions == undone && actions & (1 << PIVOT) == 0,
            _ => true,
        }
    }
}

/// I1, I4, I8, I9, F14, F15, F60, F61, F63, F65.
#[test]
fn a_saga_is_all_or_nothing_in_every_order_of_its_messages() {
    super::holds(SagaModel::new(None));
}

#[test]
fn i4_an_inbox_that_forgets_is_seen() {
    super::breaks(SagaModel::new(Some(Defect::NoInbox)), I4);
}

#[test]
fn i9_a_compensation_that_does_not_bar_is_seen() {
    super::breaks(SagaModel::new(Some(Defect::NoBarrier)), I9);
}
