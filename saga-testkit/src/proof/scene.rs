//! What one run shares: who is troubled by what, what has happened, and whether all is over.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use saga_core::definition::Definition;
use saga_core::machine::{Progress, StepState};
use saga_core::message::{CommandHeaders, Envelope, Kind, Outcome};
use saga_core::store::Snapshot;
use saga_core::{MessageId, StepName};
use tokio::sync::{Semaphore, watch};

use super::audit::Audit;
use super::clock::SimulatedClock;
use super::dice::Dice;
use super::plan::Plan;
use super::trouble::{Side, Trouble, TroubleKind};

/// How long after the deadline of its command an answer comes that is too late.
const TOO_LATE: Duration = Duration::from_secs(15);
/// What a participant says to an action that comes after its compensation.
const UNDONE_BEFORE: &str = "undone-before-it-arrived";
/// The type of the reply to a compensation of what was not done.
const NOTHING_TO_UNDO: &str = "NothingToUndo";

/// A handle to what one run shares.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    clock: SimulatedClock,
    definition: Arc<Definition>,
    shared: Arc<Mutex<Shared>>,
    /// Closed once the saga has come to rest: who waits for that goes on in the order in which they came.
    under_way: Arc<Semaphore>,
    /// How many commits of the saga there were so far.
    commits: Arc<watch::Sender<usize>>,
}

#[derive(Debug, Default)]
struct Shared {
    troubles: Vec<Trouble>,
    /// Every command that was sent, by id.
    commands: HashMap<MessageId, Sent>,
    /// In the order that they were sent first.
    order: Vec<MessageId>,
    carried: Vec<Carried>,
    story: Vec<String>,
    seen: Seen,
    noise: Option<Dice>,
    audit: Audit,
    commits_to_rest: Option<usize>,
}

/// A command, as it was sent first.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) step: StepName,
    pub(super) side: Side,
}

/// A command that a participant has on record: it was carried out or refused.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    pub(super) step: StepName,
    pub(super) side: Side,
    pub(super) has_succeeded: bool,
    /// There was nothing to undo.
    pub(super) is_empty: bool,
    /// How many commands had been sent for the first time by then.
    pub(super) after_sent: usize,
}

/// How often something was seen that must be survived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) crashes: u64,
    pub(super) repeated_commands: u64,
    pub(super) refused_late_actions: u64,
    pub(super) empty_compensations: u64,
    pub(super) late_replies: u64,
    pub(super) operations: u64,
}

impl Seen {
    pub(super) const fn all(&self) -> [(u64, &'static str); 6] {
        [
            (self.crashes, "crashes"),
            (self.repeated_commands, "commands that were sent again"),
            (self.late_replies, "messages that came late"),
            (self.refused_late_actions, "actions that came after their compensation"),
            (self.empty_compensations, "compensations of what had not been done"),
            (self.operations, "times that a person had it tried again"),
        ]
    }

    pub(super) const fn add(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.repeated_commands += other.repeated_commands;
        self.late_replies += other.late_replies;
        self.refused_late_actions += other.refused_late_actions;
        self.empty_compensations += other.empty_compensations;
        self.operations += other.operations;
    }
}

impl Scene {
    pub(super) fn new(clock: SimulatedClock, definition: &Arc<Definition>, plan: &Plan) -> Self {
        let (troubles, noise) = (plan.troubles.clone(), plan.noise.map(Dice::new));
        let shared = Shared { troubles, noise, ..Shared::default() };
        Self {
            clock,
            definition: Arc::clone(definition),
            shared: Arc::new(Mutex::new(shared)),
            under_way: Arc::new(Semaphore::new(0)),
            commits: Arc::new(watch::Sender::new(0)),
        }
    }

    pub(super) const fn clock(&self) -> &SimulatedClock {
        &self.clock
    }

    /// Notes something for the story.
    pub(super) fn tell(&self, what: impl Display) {
        let line = format!("{:>8} ms  {what}", self.clock.millis());
        self.shared().story.push(line);
    }

    /// Ends all trouble, and lets arrive what was held back.
    pub(super) fn heal(&self) {
        let mut shared = self.shared();
        shared.troubles.clear();
        shared.noise = None;
        drop(shared);
        self.over();
    }

    /// Returns how long a record is on its way if it is delayed, and how long a copy of it if there is one.
    pub(super) fn noise(&self) -> [Option<Duration>; 2] {
        let mut shared = self.shared();
        let Some(dice) = &mut shared.noise else { return [None; 2] };
        let mut delay =
            |one_in| dice.one_in(one_in).then(|| Duration::from_millis(dice.below(400)));
        [delay(3), delay(8)]
    }

    /// Lets arrive what was held back, for the saga has come to rest.
    pub(super) fn over(&self) {
        let commits = *self.commits.borrow();
        self.shared().commits_to_rest.get_or_insert(commits);
        self.under_way.close();
    }

    /// Waits until what was held back may arrive.
    pub(super) async fn is_over(&self) {
        // It has nothing to give, so this ends when it is closed.
        let _ = self.under_way.acquire().await;
    }

    /// Notes commits of the saga.
    pub(super) fn committed(&self, commits: usize) {
        self.commits.send_modify(|all| *all += commits);
    }

    /// Returns how many commits of the saga there were when it came to rest first.
    pub(super) fn commits(&self) -> usize {
        self.shared().commits_to_rest.unwrap_or_default()
    }

    /// Waits until there were so many commits of the saga.
    pub(super) async fn has_committed(&self, commits: usize) {
        let mut all = self.commits.subscribe();
        all.wait_for(|all| *all >= commits).await.expect("the scene keeps the sender");
    }

    /// Notes that a command is sent, and returns what is wrong with it.
    pub(super) fn sending(
        &self,
        command: &Envelope,
        headers: &CommandHeaders,
    ) -> Option<TroubleKind> {
        let side = self.side(headers);
        let sent = Sent { step: headers.step.clone(), side };
        let mut shared = self.shared();
        if shared.commands.insert(command.id, sent).is_some() {
            shared.seen.repeated_commands += 1;
        } else {
            shared.order.push(command.id);
        }
        let wrong = |it: &&Trouble| it.step == headers.step && it.side == side;
        shared.troubles.iter().find(wrong).map(|trouble| trouble.kind)
    }

    /// Notes that a reply is sent, and returns what is wrong with the command that it answers.
    pub(super) fn answering(
        &self,
        command: Option<MessageId>,
        outcome: &Outcome,
    ) -> Option<TroubleKind> {
        let mut shared = self.shared();
        let is_barred = matches!(outcome, Outcome::Rejected(code) if code == UNDONE_BEFORE);
        shared.seen.refused_late_actions += u64::from(is_barred);
        let sent = shared.commands.get(&command?)?;
        let wrong = |it: &&Trouble| it.step == sent.step && it.side == sent.side;
        shared.troubles.iter().find(wrong).map(|trouble| trouble.kind)
    }

    /// Notes what a participant has put on record.
    pub(super) fn carried(&self, reply: &Envelope) {
        let (Kind::Reply(headers), Some(_)) = (&reply.kind, reply.causation) else { return };
        let has_succeeded = headers.outcome == Outcome::Succeeded;
        let is_empty = reply.message_type.as_str() == NOTHING_TO_UNDO;
        let side = self.side_of(reply.causation);
        self.tell(format_args!("{side} of `{}` on record: {:?}", headers.step, headers.outcome));
        let mut shared = self.shared();
        shared.seen.empty_compensations += u64::from(is_empty);
        let after_sent = shared.order.len();
        let step = headers.step.clone();
        shared.carried.push(Carried { step, side, has_succeeded, is_empty, after_sent });
    }

    /// Returns whether a command is an action or a compensation.
    pub(super) fn side(&self, headers: &CommandHeaders) -> Side {
        let is_only = self.definition.is_compensation_only(&headers.step);
        if headers.compensates.is_some() || is_only { Side::Compensation } else { Side::Action }
    }

    /// Returns how long an answer is on its way that comes after the deadline.
    pub(super) fn after_the_deadline(&self, step: &StepName, side: Side) -> Duration {
        let deadline = match side {
            Side::Action => self.definition.deadline(step),
            Side::Compensation => self.definition.compensation_deadline(step),
        };
        deadline.unwrap_or_default() + TOO_LATE
    }

    /// Returns how long an answer is on its way at most.
    pub(super) fn latest(&self) -> Duration {
        let sides = [Side::Action, Side::Compensation];
        let late = |step| sides.into_iter().map(move |side| self.after_the_deadline(step, side));
        self.definition.step_names().flat_map(late).max().unwrap_or_default()
    }

    /// Returns whether it is an action or a compensation that a reply answers.
    pub(super) fn side_of(&self, command: Option<MessageId>) -> Side {
        let shared = self.shared();
        let sent = command.and_then(|command| shared.commands.get(&command));
        sent.map_or(Side::Action, |sent| sent.side)
    }

    /// Returns true if the stored saga still waits for what a reply says.
    pub(super) fn awaits(&self, saga: &Snapshot, reply: &Envelope) -> bool {
        let Kind::Reply(headers) = &reply.kind else { return false };
        let Snapshot { saga, status, state, .. } = saga.clone();
        let progress = Progress::decode(&self.definition, saga, status, state);
        let progress = progress.expect("it was committed");
        let mut steps = progress.steps(&self.definition);
        let Some(step) = steps.find(|step| step.name == headers.step) else { return false };
        let is_outstanding = match self.side_of(reply.causation) {
            Side::Action => step.state == StepState::Outstanding,
            Side::Compensation => step.state == StepState::Compensating,
        };
        // Whoever hears that an earlier attempt has failed waits for the latest.
        let counts = match headers.outcome {
            Outcome::Succeeded | Outcome::Rejected(_) => true,
            _ => headers.attempt == step.attempt,
        };
        is_outstanding && counts
    }

    /// Notes what has become durable or was let go, or asks for it.
    pub(super) fn audit<T>(&self, audit: impl FnOnce(&mut Audit) -> T) -> T {
        audit(&mut self.shared().audit)
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Seen)) {
        count(&mut self.shared().seen);
    }

    /// Returns the commands that were sent, in order.
    pub(super) fn sent(&self) -> Vec<Sent> {
        let shared = self.shared();
        shared.order.iter().map(|id| shared.commands[id].clone()).collect()
    }

    /// Returns at which place in the order a step's command was sent first.
    pub(super) fn place(&self, step: &StepName, side: Side) -> Option<usize> {
        self.sent().iter().position(|it| it.step == *step && it.side == side)
    }

    pub(super) fn on_record(&self) -> Vec<Carried> {
        self.shared().carried.clone()
    }

    pub(super) fn seen(&self) -> Seen {
        self.shared().seen
    }

    pub(super) fn story(&self) -> Vec<String> {
        self.shared().story.clone()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
