//! Two engines, one store and a bag of messages, moved at random and checked at each commit.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use proptest::prelude::*;
use saga_core::machine::{
    Decision, Event, HistoryKind, Operation, OperatorAction, Origin, OutgoingCommand, Progress,
    ReplyEvent, Resolution, Status, StepState, StepView, Verdict, decide,
};
use saga_core::message::Outcome;
use saga_core::{Message as _, MessageId, Payload, Saga, SagaId, StepName, Timestamp};

use crate::Seen;
use crate::definitions::{Data, Kind, Recipe, StepInfo, Undo};
use crate::world::{Effect, Script, World};

/// Moves that a healthy world may take until the saga has ended; far more than any of them needs.
const HEALTHY_MOVES_MAX: usize = 2_000;

/// One thing that happens next.
#[derive(Debug, Clone)]
pub enum Move {
    /// A message of the bag arrives; it may arrive again later.
    Deliver {
        pick: usize,
        stays: bool,
        engine: usize,
        fate: Fate,
    },
    /// Time passes until a timer is due, and an engine looks at its timers.
    TimePasses {
        engine: usize,
        fate: Fate,
    },
    /// An engine looks at its timers though none is due.
    TooEarly {
        engine: usize,
    },
    /// What a dead engine had committed and not published is published.
    Recover,
    /// What was published is published again.
    Republish {
        pick: usize,
    },
    /// An engine forgets its copy of the saga.
    Forget {
        engine: usize,
    },
    Cancel {
        engine: usize,
        fate: Fate,
    },
    Operate {
        act: Act,
        engine: usize,
        fate: Fate,
    },
    /// A reply to a command that nobody sent.
    Forge {
        engine: usize,
    },
}

/// What becomes of an engine while it makes a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Lives,
    DiesBeforeCommit,
    DiesBeforePublishing,
    DiesBeforeAcknowledging,
}

/// What a person does; what is resolved is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Retry,
    Skip,
    ResolveSucceeded,
    ResolveRejected,
    MoveTimer,
}

pub fn moves() -> impl Strategy<Value = Vec<Move>> {
    let fate = || {
        prop_oneof![
            7 => Just(Fate::Lives),
            1 => Just(Fate::DiesBeforeCommit),
            1 => Just(Fate::DiesBeforePublishing),
            1 => Just(Fate::DiesBeforeAcknowledging),
        ]
    };
    let act = prop_oneof![
        3 => Just(Act::Retry),
        1 => Just(Act::Skip),
        1 => Just(Act::ResolveSucceeded),
        1 => Just(Act::ResolveRejected),
        1 => Just(Act::MoveTimer),
    ];
    let engine = || 0..2_usize;
    let one = prop_oneof![
        20 => (any::<usize>(), prop::bool::weighted(0.2), engine(), fate())
            .prop_map(|(pick, stays, engine, fate)| Move::Deliver { pick, stays, engine, fate }),
        5 => (engine(), fate()).prop_map(|(engine, fate)| Move::TimePasses { engine, fate }),
        1 => engine().prop_map(|engine| Move::TooEarly { engine }),
        2 => Just(Move::Recover),
        1 => any::<usize>().prop_map(|pick| Move::Republish { pick }),
        1 => engine().prop_map(|engine| Move::Forget { engine }),
        1 => (engine(), fate()).prop_map(|(engine, fate)| Move::Cancel { engine, fate }),
        3 => (act, engine(), fate())
            .prop_map(|(act, engine, fate)| Move::Operate { act, engine, fate }),
        1 => engine().prop_map(|engine| Move::Forge { engine }),
    ];
    prop::collection::vec(one, 0..120)
}

#[derive(Debug, Clone)]
enum Message {
    Start,
    Command(OutgoingCommand),
    Reply(ReplyEvent),
}

/// What is stored of the saga.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    version: u64,
    status: Status,
    state: Bytes,
}

pub struct Simulation<'a> {
    saga: Saga<Data>,
    steps: Vec<StepInfo>,
    world: World,
    seen: &'a mut Seen,
    now: Timestamp,
    stored: Option<Stored>,
    /// What each engine believes is stored.
    copies: [Option<Stored>; 2],
    /// All that was ever committed to be sent, and whether it was published.
    outbox: Vec<(OutgoingCommand, bool)>,
    bag: Vec<Message>,
    ledger: Ledger,
    story: Vec<String>,
}

/// What is counted over the life of a saga.
#[derive(Default)]
struct Ledger {
    /// Commands sent since a person last acted on the step, by name and direction.
    attempts: HashMap<(String, bool), u32>,
    /// Outcomes noted since a person last acted on the step.
    outcomes: HashMap<String, u32>,
    /// Steps whose command a person skipped.
    skipped: Vec<String>,
    /// Steps whose compensation a person skipped.
    left_as_they_are: Vec<String>,
    ids: HashMap<(String, bool), MessageId>,
    /// Replies that arrived, by command and attempt.
    replies: HashSet<(MessageId, u32)>,
}

type Checked<T = ()> = Result<T, String>;

impl<'a> Simulation<'a> {
    pub fn new(recipe: &Recipe, scripts: Vec<Script>, seen: &'a mut Seen) -> Self {
        let (saga, steps) = recipe.build();
        let world = World::new(steps.clone(), scripts);
        let mut story = vec!["The steps:".to_owned()];
        story.extend(steps.iter().map(ToString::to_string));
        Self {
            saga,
            steps,
            world,
            seen,
            now: Timestamp::from_micros(1_721_032_200_000_000),
            stored: None,
            copies: [None, None],
            outbox: Vec::new(),
            bag: vec![Message::Start],
            ledger: Ledger::default(),
            story,
        }
    }

    /// Makes the moves, heals the world, and judges the end. An error is the story of what went wrong.
    pub fn run(mut self, moves: &[Move]) -> Checked {
        let result = moves
            .iter()
            .try_for_each(|it| self.make(it))
            .and_then(|()| self.heal())
            .and_then(|()| self.judge());
        result.map_err(|wrong| format!("{}\n\nWRONG: {wrong}\n", self.story.join("\n")))
    }

    fn make(&mut self, it: &Move) -> Checked {
        match *it {
            Move::Deliver { pick, stays, engine, fate } => {
                if self.bag.is_empty() {
                    return Ok(());
                }
                let message = self.bag.remove(pick % self.bag.len());
                if stays {
                    self.bag.push(message.clone());
                }
                self.deliver(message, engine, fate)
            }
            Move::TimePasses { engine, fate } => self.time_passes(engine, fate),
            Move::TooEarly { engine } => self.decide(
                engine,
                &Event::TimerFired { reachable_since: Timestamp::default() },
                Fate::Lives,
            ),
            Move::Recover => {
                self.recover();
                Ok(())
            }
            Move::Republish { pick } => {
                if !self.outbox.is_empty() {
                    let (command, _) = self.outbox[pick % self.outbox.len()].clone();
                    self.bag.push(Message::Command(command));
                }
                Ok(())
            }
            Move::Forget { engine } => {
                self.copies[engine] = None;
                Ok(())
            }
            Move::Cancel { engine, fate } => {
                self.seen.cancels += 1;
                self.decide(engine, &Event::CancelRequested, fate)
            }
            Move::Operate { act, engine, fate } => self.operate(act, engine, fate),
            Move::Forge { engine } => {
                let command = MessageId(uuid::Uuid::nil());
                let forged = ReplyEvent {
                    command,
                    attempt: 1,
                    outcome: Outcome::Succeeded,
                    payload: Payload::default(),
                };
                self.decide(engine, &Event::Reply(forged), Fate::Lives)
            }
        }
    }

    // What happens.

    fn deliver(&mut self, message: Message, engine: usize, fate: Fate) -> Checked {
        match &message {
            Message::Start => self.start(engine, fate)?,
            Message::Command(command) => {
                let reply = self.world.handle(command, self.seen)?;
                let (title, attempt) = (title(command), command.attempt);
                self.tell(&format!("world: {title} #{attempt} -> {:?}", reply.outcome));
                if let Outcome::Rejected(code) = &reply.outcome {
                    self.seen.refused_late_commands += u32::from(code != "no");
                }
                self.bag.push(Message::Reply(reply));
                return Ok(());
            }
            Message::Reply(reply) => {
                let is_first = self.ledger.replies.insert((reply.command, reply.attempt));
                self.seen.duplicate_replies += u32::from(!is_first);
                self.decide(engine, &Event::Reply(reply.clone()), fate)?;
            }
        }
        if fate != Fate::Lives {
            // It was not acknowledged, so it comes again.
            self.bag.push(message);
        }
        Ok(())
    }

    fn start(&mut self, engine: usize, fate: Fate) -> Checked {
        if self.stored.is_some() {
            return Ok(());
        }
        let origin = Origin { correlation: saga().into(), causation: None, traceparent: None };
        let progress = Progress::start(self.saga.definition(), saga(), origin, Data::default());
        let decision = decide(self.saga.definition(), progress, Event::Started, self.now);
        self.tell(&format!("engine {engine}: starts, {fate:?}"));
        self.commit(engine, None, decision, fate, None)
    }

    fn time_passes(&mut self, engine: usize, fate: Fate) -> Checked {
        if let Some(due) = self.progress()?.and_then(|progress| progress.next_due()) {
            self.now = self.now.max(due);
        }
        self.decide(engine, &Event::TimerFired { reachable_since: Timestamp::default() }, fate)
    }

    fn recover(&mut self) {
        for (command, is_published) in &mut self.outbox {
            if !std::mem::replace(is_published, true) {
                self.bag.push(Message::Command(command.clone()));
            }
        }
    }

    /// Lets an engine decide on its copy, and again on what is stored if its commit is a conflict.
    fn decide(&mut self, engine: usize, event: &Event, fate: Fate) -> Checked {
        loop {
            if self.copies[engine].is_none() {
                self.copies[engine].clone_from(&self.stored);
            }
            let Some(copy) = self.copies[engine].clone() else { return Ok(()) };
            self.tell(&format!(
                "engine {engine}: {} on version {}, {fate:?}",
                text(event, &self.outbox),
                copy.version
            ));
            let progress = self.decode(&copy)?;
            let definition = self.saga.definition();
            let decided = catch_unwind(AssertUnwindSafe(|| {
                decide(definition, progress, event.clone(), self.now)
            }));
            let decision = decided.map_err(|_| "the machine panicked".to_owned())?;
            let is_stale = self.stored.as_ref() != Some(&copy);
            match decision.verdict {
                Verdict::Applied => {}
                // Nothing is committed, so no version check shows that the copy is old.
                _ if is_stale => {
                    self.tell("  changes nothing: doubts its copy");
                    self.seen.doubts += 1;
                    self.copies[engine] = None;
                    continue;
                }
                Verdict::Ignored(reason) => {
                    self.tell(&format!("  ignored: {}", reason.as_str()));
                    if let Event::Reply(_) = event {
                        self.seen.late_replies += 1;
                    }
                    return self.unchanged(&copy, &decision);
                }
                Verdict::Refused(reason) => {
                    self.tell(&format!("  refused: {reason}"));
                    self.seen.refusals += 1;
                    return self.unchanged(&copy, &decision);
                }
            }
            if fate != Fate::DiesBeforeCommit && is_stale {
                self.tell("  conflict: decides again");
                self.seen.conflicts += 1;
                self.copies[engine] = None;
                continue;
            }
            return self.commit(engine, Some(&copy), decision, fate, Some(event));
        }
    }

    fn unchanged(&self, copy: &Stored, decision: &Decision) -> Checked {
        let state = decision.progress.encode(self.saga.definition()).map_err(|e| e.to_string())?;
        ensure(
            state == copy.state
                && decision.progress.status() == copy.status
                && decision.commands.is_empty()
                && decision.history.is_empty(),
            || format!("{:?} changed something", decision.verdict),
        )
    }

    fn commit(
        &mut self,
        engine: usize,
        base: Option<&Stored>,
        decision: Decision,
        fate: Fate,
        event: Option<&Event>,
    ) -> Checked {
        if fate == Fate::DiesBeforeCommit {
            self.seen.crashes_before_commit += 1;
            self.copies[engine] = None;
            return Ok(());
        }
        let definition = self.saga.definition();
        let stored = Stored {
            version: base.map_or(0, |base| base.version) + 1,
            status: decision.progress.status(),
            state: decision.progress.encode(definition).map_err(|error| error.to_string())?,
        };
        let views: Vec<_> = decision.progress.steps(definition).collect();
        self.tell(&format!("  {} {}", stored.status, states(&views)));
        self.check_commit(base, &decision, &views, event)?;
        self.copies[engine] = Some(stored.clone());
        self.stored = Some(stored);
        let is_published = matches!(fate, Fate::Lives | Fate::DiesBeforeAcknowledging);
        for command in decision.commands {
            if is_published {
                self.bag.push(Message::Command(command.clone()));
            }
            self.outbox.push((command, is_published));
        }
        if fate != Fate::Lives {
            self.seen.crashes_after_commit += 1;
            self.copies[engine] = None;
        }
        Ok(())
    }

    // What a person does.

    fn operate(&mut self, act: Act, engine: usize, fate: Fate) -> Checked {
        let Some(progress) = self.progress()? else { return Ok(()) };
        if act == Act::MoveTimer {
            let mut views = progress.steps(self.saga.definition());
            let due = |view: StepView| Some((view.name, view.due?));
            let Some((step, from)) = views.find_map(due) else { return Ok(()) };
            let action = OperatorAction::MoveTimer { step, from, to: self.now };
            drop(views);
            return self.act(action, engine, fate);
        }
        let Some((step, is_undo)) = self.parked_at(&progress) else {
            return self.act(OperatorAction::Retry, engine, fate);
        };
        let command = self.id(&step, false);
        let action = match act {
            Act::Retry | Act::MoveTimer => OperatorAction::Retry,
            Act::Skip => OperatorAction::Skip,
            Act::ResolveSucceeded if is_undo => {
                self.world.undo_by_hand(step.as_str(), command, self.id(&step, true))?;
                OperatorAction::Resolve(Resolution::Succeeded(Payload::default()))
            }
            Act::ResolveSucceeded => match self.world.do_by_hand(step.as_str(), command)? {
                Some(reply) => OperatorAction::Resolve(Resolution::Succeeded(reply)),
                None => OperatorAction::Retry,
            },
            Act::ResolveRejected if !is_undo && !self.world.bar(command) => OperatorAction::Retry,
            Act::ResolveRejected => {
                OperatorAction::Resolve(Resolution::Rejected("by hand".to_owned()))
            }
        };
        self.act(action, engine, fate)
    }

    fn act(&mut self, action: OperatorAction, engine: usize, fate: Fate) -> Checked {
        self.seen.operations += 1;
        let (by, reason) = ("ada".to_owned(), "test".to_owned());
        // A person acts on what is stored; what an engine believes must not matter.
        self.decide(engine, &Event::Operator(Operation { by, reason, action }), fate)
    }

    /// Returns the step that the saga is parked at, and whether it is its compensation.
    fn parked_at(&self, progress: &Progress) -> Option<(StepName, bool)> {
        let step = progress.failure()?.step.clone()?;
        let view = progress.steps(self.saga.definition()).find(|view| view.name == step)?;
        Some((step, view.state == StepState::CompensationFailed))
    }

    // The end.

    /// Delivers everything, lets every timer fire, and settles by hand what is parked, until the saga has ended.
    fn heal(&mut self) -> Checked {
        self.tell("From here on the world is healthy.");
        for _ in 0..HEALTHY_MOVES_MAX {
            self.recover();
            if !self.bag.is_empty() {
                let message = self.bag.remove(0);
                self.deliver(message, 0, Fate::Lives)?;
                continue;
            }
            let status = self.stored.as_ref().ok_or("nothing was stored")?.status;
            match status {
                Status::Completed | Status::Compensated => return Ok(()),
                Status::Running | Status::Compensating => self.time_passes(0, Fate::Lives)?,
                Status::Parked => self.settle()?,
            }
        }
        Err("it does not end although the world answers".to_owned())
    }

    fn settle(&mut self) -> Checked {
        let progress = self.progress()?.ok_or("nothing is stored")?;
        let (step, is_undo) = self.parked_at(&progress).ok_or("it is parked nowhere")?;
        let is_retriable = self.info(step.as_str()).kind == Kind::Retriable;
        let act = match self.world.recorded(self.id(&step, false)) {
            _ if is_undo => Act::ResolveSucceeded,
            Some(Outcome::Succeeded) => Act::ResolveSucceeded,
            Some(Outcome::Rejected(_)) if is_retriable => Act::Skip,
            Some(Outcome::Rejected(_)) => Act::ResolveRejected,
            _ => Act::Retry,
        };
        self.operate(act, 0, Fate::Lives)
    }

    /// I8: all or nothing.
    fn judge(&mut self) -> Checked {
        let progress = self.progress()?.ok_or("nothing is stored")?;
        let data = progress.data::<Data>().ok_or("the data is not ours")?.clone();
        let views: Vec<_> = progress.steps(self.saga.definition()).collect();
        let status = progress.status();
        for (number, (info, view)) in self.steps.clone().iter().zip(&views).enumerate() {
            let is_named = |steps: &[String]| steps.iter().any(|step| step == info.name);
            let is_expected = status == Status::Completed
                && info.kind != Kind::Wait
                && view.state == StepState::Succeeded;
            // What a person skipped is that person's.
            let is_excused = status == Status::Completed && is_named(&self.ledger.skipped)
                || is_named(&self.ledger.left_as_they_are);
            let is_in_effect = self.world.is_in_effect(number);
            ensure(is_in_effect == is_expected || is_excused, || {
                format!("I8: {} in effect: {is_in_effect}, expected: {is_expected}", info.name)
            })?;
            let taken_in = data.replies.iter().filter(|(step, _)| *step == number).count();
            let is_answered = is_expected && info.kind != Kind::Prior;
            ensure(taken_in == usize::from(is_answered) || !is_answered && taken_in == 1, || {
                format!("the reply of {} was taken in {taken_in} times", info.name)
            })?;
            self.seen.skipped_steps += u32::from(view.state == StepState::Skipped);
        }
        self.check_order()?;
        match status {
            Status::Completed => {
                ensure(
                    !self.world.effects.iter().any(|it| matches!(it, Effect::Undone(_))),
                    || "I8: completed, and something was undone".to_owned(),
                )?;
                self.seen.completed += 1;
            }
            Status::Compensated => self.seen.compensated += 1,
            status => return Err(format!("it stands at {status}")),
        }
        Ok(())
    }

    /// Compensations take effect in reverse order of the stages.
    fn check_order(&self) -> Checked {
        let undone = self.world.effects.iter().filter_map(|effect| match effect {
            Effect::Undone(number) => Some(&self.steps[*number]),
            Effect::Done(_) => None,
        });
        let in_order: Vec<_> = undone
            .filter(|info| !self.ledger.left_as_they_are.iter().any(|step| step == info.name))
            .collect();
        ensure(in_order.is_sorted_by(|one, next| one.stage >= next.stage), || {
            format!("compensated in the order {in_order:?}")
        })
    }

    // Each commit.

    fn check_commit(
        &mut self,
        base: Option<&Stored>,
        decision: &Decision,
        views: &[StepView],
        event: Option<&Event>,
    ) -> Checked {
        let before = base.map(|base| base.status);
        let status = decision.progress.status();
        ensure(!before.is_some_and(Status::is_final), || "I1: it had ended".to_owned())?;
        ensure(decision.progress.failure().is_some() == (status == Status::Parked), || {
            "it is parked without a reason, or the other way round".to_owned()
        })?;
        ensure(!decision.history.is_empty(), || "it changed without a trace".to_owned())?;
        let waits = matches!(status, Status::Running | Status::Compensating);
        ensure(waits == decision.progress.next_due().is_some(), || {
            "it waits for ever, or has a timer though it waits for nothing".to_owned()
        })?;
        if before != Some(Status::Parked) && status == Status::Parked {
            self.seen.parked += 1;
        }
        let resumed = decision.history.iter().any(|entry| entry.kind == HistoryKind::Resumed);
        if resumed && matches!(event, Some(Event::Reply(_))) {
            self.seen.woken_by_late_answers += 1;
        }
        if let (Some(base), Some(Event::Operator(operation))) = (base, event) {
            let progress = self.decode(base)?;
            self.note_operation(&progress, &operation.action);
        }
        self.check_outcomes(decision)?;
        decision.commands.iter().try_for_each(|command| self.check_command(command, views))
    }

    fn note_operation(&mut self, before: &Progress, action: &OperatorAction) {
        let Some((step, is_undo)) = self.parked_at(before) else { return };
        let step = step.to_string();
        self.ledger.attempts.remove(&(step.clone(), is_undo));
        self.ledger.outcomes.remove(&step);
        match action {
            OperatorAction::Skip if is_undo => self.ledger.left_as_they_are.push(step),
            OperatorAction::Skip => self.ledger.skipped.push(step),
            _ => {}
        }
    }

    /// I2: one outcome per step.
    fn check_outcomes(&mut self, decision: &Decision) -> Checked {
        for entry in &decision.history {
            if let (HistoryKind::Succeeded | HistoryKind::Rejected, Some(step)) =
                (entry.kind, &entry.step)
            {
                let outcomes = self.ledger.outcomes.entry(step.to_string()).or_default();
                *outcomes += 1;
                ensure(*outcomes == 1, || format!("I2: {step} has a second outcome"))?;
            }
        }
        Ok(())
    }

    fn check_command(&mut self, command: &OutgoingCommand, views: &[StepView]) -> Checked {
        let is_undo = is_undo(command);
        let step = command.step.to_string();
        let info = self.info(&step).clone();
        let key = (step.clone(), is_undo);
        let id = *self.ledger.ids.entry(key.clone()).or_insert(command.id);
        ensure(id == command.id, || format!("{step} was given a second command id"))?;
        let attempts = self.ledger.attempts.entry(key).or_default();
        *attempts += 1;
        let allowed = if is_undo { info.undo_attempts } else { info.attempts };
        ensure(*attempts <= allowed, || format!("{step} was asked {attempts} times"))?;
        if !is_undo {
            return Ok(());
        }
        let undone = command.compensates.and_then(|undone| self.world.recorded(undone));
        let is_known = matches!(undone, Some(Outcome::Succeeded)) || info.kind == Kind::Prior;
        ensure(!command.succeeded || is_known, || format!("~{step} knows more than the world"))?;
        for (other, view) in self.steps.iter().zip(views) {
            let is_open = matches!(
                view.state,
                StepState::Outstanding | StepState::Delayed | StepState::Waiting
            );
            ensure(!is_open, || format!("~{step} was sent while {} was open", other.name))?;
            let is_behind = other.stage > info.stage && other.kind != Kind::Wait;
            let is_undone = !matches!(
                view.state,
                StepState::Succeeded
                    | StepState::Unknown
                    | StepState::Failed
                    | StepState::Compensating
                    | StepState::CompensationDelayed
                    | StepState::CompensationFailed
            );
            ensure(!is_behind || is_undone, || {
                format!("~{step} was sent before {} was undone", other.name)
            })?;
        }
        Ok(())
    }

    // Looking things up.

    fn progress(&self) -> Checked<Option<Progress>> {
        self.stored.as_ref().map(|stored| self.decode(stored)).transpose()
    }

    fn decode(&self, stored: &Stored) -> Checked<Progress> {
        let state = stored.state.clone();
        Progress::decode(self.saga.definition(), saga(), stored.status, state)
            .map_err(|error| format!("what was stored cannot be read: {error}"))
    }

    fn info(&self, step: &str) -> &StepInfo {
        self.steps.iter().find(|info| info.name == step).expect("the step exists")
    }

    /// Returns the id of a command that was sent, or nil.
    fn id(&self, step: &StepName, is_undo: bool) -> MessageId {
        let id = self.ledger.ids.get(&(step.to_string(), is_undo));
        id.copied().unwrap_or(MessageId(uuid::Uuid::nil()))
    }

    fn tell(&mut self, line: &str) {
        self.story.push(line.to_owned());
    }
}

fn saga() -> SagaId {
    SagaId(uuid::Uuid::from_u128(0x0190_b5a0_0000_7000_8000_0000_0000_0001))
}

fn is_undo(command: &OutgoingCommand) -> bool {
    command.message_type == Undo::TYPE
}

/// Names a command: `a`, or `~a` for the compensation of `a`.
fn title(command: &OutgoingCommand) -> String {
    format!("{}{}", if is_undo(command) { "~" } else { "" }, command.step)
}

fn ensure(holds: bool, wrong: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(wrong()) }
}

fn states(views: &[StepView]) -> String {
    let states =
        views.iter().map(|view| format!("{}={:?}#{}", view.name, view.state, view.attempt));
    states.collect::<Vec<_>>().join(" ")
}

fn text(event: &Event, outbox: &[(OutgoingCommand, bool)]) -> String {
    match event {
        Event::Reply(reply) => {
            let asked = outbox.iter().map(|(command, _)| command).find(|it| it.id == reply.command);
            let asked = asked.map_or_else(|| "nothing".to_owned(), title);
            format!("reply to {asked} #{}: {:?}", reply.attempt, reply.outcome)
        }
        Event::Operator(operation) => format!("operator: {:?}", operation.action),
        event => format!("{event:?}"),
    }
}
