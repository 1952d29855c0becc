//! A saga in the engine's hands: loaded, decided on, not yet committed.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::registry::Registry;
use super::telemetry::Asked;
use crate::definition::Definition;
use crate::error::panic_text;
use crate::machine::{
    Decision, Event, Failure, HistoryEntry, HistoryKind, Ignored, OperatorAction, OutgoingCommand,
    Progress, Status, Verdict, decide, encode_history, parked_without_definition,
};
use crate::message::{PAYLOAD_BYTES_MAX, describe};
use crate::store::erased::DynSagaStore;
use crate::store::{Commit, HistoryRecord, NewSaga, Snapshot, Version, WakeAt};
use crate::{IdempotencyKey, MessageId, SagaId, SagaName, Timestamp};

/// How long a saga that waits for a participant inside the engine stays with a process that says nothing.
const HANDOVER: Duration = Duration::from_secs(5);

/// A saga with what was decided since it was last committed.
pub(super) struct Work {
    pub(super) saga: SagaId,
    pub(super) home: u32,
    version: Version,
    /// Given until the saga's first commit.
    new: Option<NewSaga>,
    wake_at: Option<Timestamp>,
    body: Body,
    history: Vec<HistoryEntry>,
    /// What is to be sent once this is committed.
    pub(super) commands: Vec<OutgoingCommand>,
    /// The message that the last decision followed from.
    pub(super) cause: Option<MessageId>,
    is_dirty: bool,
    /// Whether this is what was committed earlier, so that another engine may have moved on since.
    pub(super) is_cached: bool,
    /// How much is stored of it.
    pub(super) bytes: usize,
    /// The wake time that the commit under way stores.
    planned_wake: Option<WakeAt>,
    /// How a new saga began, if it has gone on since.
    begun: Option<Begun>,
    /// When what is outstanding was asked for, for those who watch.
    pub(super) asked: Asked,
}

/// A new saga as it began.
struct Begun {
    state: Bytes,
    history: Vec<HistoryEntry>,
}

#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
enum Body {
    /// The definition is known; the progress is gone only if a decision panicked.
    Known { definition: Arc<Definition>, progress: Option<Progress> },
    /// Nobody here can go on with it.
    Foreign { name: SagaName, state: Bytes, status: Status },
}

/// A decision that could not be made or stored.
pub(super) struct Broken(pub(super) String);

impl Work {
    /// Takes over a new saga; `cause` is the message that starts it.
    pub(super) fn start(
        definition: Arc<Definition>,
        progress: Progress,
        new: NewSaga,
        cause: Option<MessageId>,
    ) -> Self {
        Self {
            saga: progress.saga(),
            home: new.home,
            version: Version::default(),
            new: Some(new),
            wake_at: None,
            body: Body::Known { definition, progress: Some(progress) },
            history: Vec::new(),
            commands: Vec::new(),
            cause,
            is_dirty: false,
            is_cached: false,
            bytes: 0,
            planned_wake: None,
            begun: None,
            asked: Asked::default(),
        }
    }

    /// Takes over a stored saga. One whose definition is not registered, or has another shape, is parked.
    pub(super) fn load(registry: &Registry, snapshot: &Snapshot, now: Timestamp) -> Self {
        let NewSaga { name, definition_version: version, fingerprint, .. } = &snapshot.new;
        let problem = match registry.version(name, *version) {
            None => format!("version {version} of `{name}` is not registered"),
            Some(definition) if definition.fingerprint() != *fingerprint => {
                format!("version {version} of `{name}` has another shape than this saga started on")
            }
            Some(definition) => {
                let state = snapshot.state.clone();
                let (saga, status) = (snapshot.saga, snapshot.status);
                match guarded(|| Progress::decode(definition, saga, status, state)) {
                    Ok(progress) => {
                        let definition = Arc::clone(definition);
                        let body = Body::Known { definition, progress: Some(progress) };
                        return Self::stored(snapshot, body);
                    }
                    Err(Broken(problem)) => problem,
                }
            }
        };
        let mut work = Self::foreign(snapshot);
        if !snapshot.status.is_at_rest() {
            work.park("unknown-definition", problem, now);
        }
        work
    }

    /// Takes over a stored saga to park it: what its definition decides about it cannot be used.
    pub(super) fn parked(snapshot: &Snapshot, problem: String, now: Timestamp) -> Self {
        let mut work = Self::foreign(snapshot);
        work.park("broken-definition", problem, now);
        work
    }

    fn foreign(snapshot: &Snapshot) -> Self {
        let (name, state) = (snapshot.new.name.clone(), snapshot.state.clone());
        let body = Body::Foreign { name, state, status: snapshot.status };
        Self::stored(snapshot, body)
    }

    fn stored(snapshot: &Snapshot, body: Body) -> Self {
        let asked = match &body {
            Body::Known { definition, progress: Some(progress) } => Asked::of(progress, definition),
            _ => Asked::default(),
        };
        Self {
            saga: snapshot.saga,
            home: snapshot.new.home,
            version: snapshot.version,
            new: None,
            wake_at: snapshot.wake_at,
            body,
            history: Vec::new(),
            commands: Vec::new(),
            cause: None,
            is_dirty: false,
            is_cached: false,
            bytes: snapshot.state.len(),
            planned_wake: None,
            begun: None,
            asked,
        }
    }

    fn park(&mut self, code: &str, message: String, now: Timestamp) {
        let Body::Foreign { state, status, .. } = &mut self.body else {
            return;
        };
        let detail = format!("{code}: {message}");
        let failure = Failure { step: None, code: code.to_owned(), message };
        if let Ok(parked) = parked_without_definition(state.clone(), &failure) {
            *state = parked;
        }
        *status = Status::Parked;
        let kind = HistoryKind::Parked;
        self.history.push(HistoryEntry { at: now, kind, step: None, attempt: 0, detail });
        self.is_dirty = true;
    }

    /// Decides on an event.
    pub(super) fn decide(&mut self, event: Event, now: Timestamp) -> Result<Verdict, Broken> {
        let (definition, progress) = match &mut self.body {
            Body::Known { definition, progress } => (definition, progress),
            Body::Foreign { status, .. } => return Ok(without_definition(*status, &event)),
        };
        let before = progress.take().ok_or_else(|| Broken("an earlier decision failed".into()))?;
        let decided = guarded(|| Ok::<_, Infallible>(decide(definition, before, event, now)));
        let Decision { progress: after, verdict, commands, history } = decided?;
        *progress = Some(after);
        self.is_dirty |= verdict == Verdict::Applied;
        self.commands.extend(commands);
        self.history.extend(history);
        Ok(verdict)
    }

    /// Returns true if an answer to this attempt of a command is awaited.
    pub(super) fn awaits(&self, command: MessageId, attempt: u32) -> bool {
        match &self.body {
            Body::Known { definition, progress: Some(progress) } => {
                progress.awaits(definition, command, attempt)
            }
            _ => false,
        }
    }

    /// Returns the commands that are outstanding, made again.
    pub(super) fn outstanding(&self) -> Vec<OutgoingCommand> {
        match &self.body {
            Body::Known { definition, progress: Some(progress) } => {
                progress.outstanding(definition)
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn progress(&self) -> Option<&Progress> {
        match &self.body {
            Body::Known { progress, .. } => progress.as_ref(),
            Body::Foreign { .. } => None,
        }
    }

    pub(super) fn status(&self) -> Status {
        match &self.body {
            Body::Known { progress, .. } => {
                progress.as_ref().map_or(Status::Running, Progress::status)
            }
            Body::Foreign { status, .. } => *status,
        }
    }

    pub(super) fn name(&self) -> &SagaName {
        match &self.body {
            Body::Known { definition, .. } => definition.name(),
            Body::Foreign { name, .. } => name,
        }
    }

    /// Returns what happened since the saga was last committed.
    pub(super) fn history(&self) -> &[HistoryEntry] {
        &self.history
    }

    /// Returns how often it was committed.
    pub(super) const fn version(&self) -> Version {
        self.version
    }

    /// Returns true if anything was decided about it after it was committed so often.
    pub(super) fn has_changed_since(&self, seen: Version) -> bool {
        self.version != seen || self.is_dirty
    }

    /// Returns what its next commit adds to its history.
    pub(super) fn record(&self) -> HistoryRecord {
        HistoryRecord { version: self.version.next(), entries: encode_history(&self.history) }
    }

    /// Returns true if there is something to commit.
    pub(super) const fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Returns the key of a saga that is not committed yet.
    pub(super) fn key(&self) -> Option<(SagaName, IdempotencyKey)> {
        let new = self.new.as_ref()?;
        Some((new.name.clone(), new.key.clone()?))
    }

    /// Returns when the next timer fires.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.progress().and_then(Progress::next_due)
    }

    /// Moves a wake time that has come without anything being due to where something will be.
    pub(super) fn touch(&mut self, now: Timestamp, store: &dyn DynSagaStore) {
        self.is_dirty |=
            self.wake_at.is_some_and(|wake| wake <= now) && self.bound(now, store) > self.wake_at;
    }

    /// Returns the earliest time at which somebody must look at the saga. One that waits for a
    /// participant inside the engine is looked at soon: if this process dies, no message tells another one.
    fn bound(&self, now: Timestamp, store: &dyn DynSagaStore) -> Option<Timestamp> {
        let due = self.next_due()?;
        let waits_inside = match &self.body {
            Body::Known { definition, progress: Some(progress) } => {
                progress.awaits_any(definition, |participant| store.is_local(participant))
            }
            _ => false,
        };
        Some(if waits_inside { due.min(now + HANDOVER) } else { due })
    }

    /// Returns what is to be committed, if anything is.
    pub(super) fn commit(
        &mut self,
        now: Timestamp,
        store: &dyn DynSagaStore,
    ) -> Result<Option<Commit>, Broken> {
        if !self.is_dirty {
            return Ok(None);
        }
        let state = match &self.body {
            Body::Known { definition, progress: Some(progress) } => {
                guarded(|| progress.encode(definition))?
            }
            // A decision panicked; the saga is on the list of the broken already.
            Body::Known { progress: None, .. } => return Ok(None),
            Body::Foreign { state, .. } => state.clone(),
        };
        if let Some(command) =
            self.commands.iter().find(|it| it.payload.0.len() > PAYLOAD_BYTES_MAX)
        {
            let (step, bytes) = (&command.step, command.payload.0.len());
            return Err(Broken(format!(
                "the command of step `{step}` has {bytes} bytes; at most {PAYLOAD_BYTES_MAX} can be sent"
            )));
        }
        let wake_at = self.wake(now, store);
        self.planned_wake = Some(wake_at);
        self.bytes = state.len();
        Ok(Some(Commit {
            saga: self.saga,
            expected: self.version,
            new: self.new.clone(),
            status: self.status(),
            wake_at,
            state,
            history: match self.history.as_slice() {
                [] => Bytes::new(),
                entries => encode_history(entries),
            },
        }))
    }

    /// Remembers how a new saga began, before it goes on; returns false if it cannot be stored like that.
    pub(super) fn remember_begin(&mut self, now: Timestamp, store: &dyn DynSagaStore) -> bool {
        if self.new.is_some() && self.begun.is_none() {
            let Ok(Some(Commit { state, .. })) = self.commit(now, store) else { return false };
            self.begun = Some(Begun { state, history: self.history.clone() });
        }
        true
    }

    /// Puts a new saga that has gone on back to where it began. What cannot be read back is found
    /// broken when it is encoded.
    pub(super) fn begin_again(&mut self) {
        let Some(Begun { state, history }) = self.begun.take() else { return };
        let Body::Known { definition, progress } = &mut self.body else { return };
        let decode = || Progress::decode(definition, self.saga, Status::Running, state);
        *progress = guarded(decode).ok();
        self.commands = progress.as_ref().map(|it| it.outstanding(definition)).unwrap_or_default();
        self.history = history;
    }

    /// A stored bound that still holds is left alone, which is cheapest; one that has passed is moved.
    fn wake(&self, now: Timestamp, store: &dyn DynSagaStore) -> WakeAt {
        match (self.wake_at, self.bound(now, store)) {
            (None, None) => WakeAt::Keep,
            (Some(_), None) => WakeAt::Never,
            (Some(stored), Some(due)) if stored <= due && stored > now => WakeAt::Keep,
            (_, Some(due)) => WakeAt::At(due),
        }
    }

    /// Notes that what [`commit`](Self::commit) returned last was made durable.
    pub(super) fn committed(&mut self) {
        match self.planned_wake.take() {
            // Nothing was to be committed.
            None => return,
            Some(WakeAt::Keep) => {}
            Some(WakeAt::At(time)) => self.wake_at = Some(time),
            Some(WakeAt::Never) => self.wake_at = None,
        }
        self.version = self.version.next();
        self.new = None;
        self.begun = None;
        self.history.clear();
        self.commands.clear();
        self.cause = None;
        self.is_dirty = false;
    }
}

/// Answers for a saga whose definition is not known here: its status is all that there is to go by.
fn without_definition(status: Status, event: &Event) -> Verdict {
    let is_cancel = match event {
        Event::CancelRequested => true,
        Event::Operator(operation) => matches!(operation.action, OperatorAction::Cancel),
        _ => false,
    };
    match event {
        _ if is_cancel && status == Status::Completed => Verdict::Refused("it has completed"),
        Event::Operator(_) if !is_cancel => {
            Verdict::Refused("its definition is not registered here")
        }
        _ if status.is_final() => Verdict::Ignored(Ignored::Ended),
        _ => Verdict::Refused("its definition is not registered here"),
    }
}

/// Runs what the user's own functions take part in; one that panics must take nobody along.
pub(super) fn guarded<T, E: std::error::Error>(
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, Broken> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| Broken(describe(&error))),
        Err(panic) => Err(Broken(format!("definition panicked: {}", panic_text(&*panic)))),
    }
}
