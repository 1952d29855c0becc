//! Engines that share a store without knowing of each other: ticks, versions, acknowledgements.
//!
//! All of it is described here: one saga with a command outstanding, replies that contradict each
//! other, a timer, and engines that receive, load, decide on what they loaded, commit with the version that
//! they decided on, and acknowledge. Each may stand still between any two steps, so that each may be a
//! zombie, or crash; a commit may fail, or be made and seem to fail; what is not acknowledged comes again, to either.

use stateright::{Model, Property};

/// Replies to the same command that contradict each other.
const REPLIES: u8 = 3;
/// The timer, a message that nobody acknowledges.
const TIMER: u8 = 0b1000_0000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// The store takes a commit that was decided on an older version.
    NoVersionCheck,
    /// Messages are acknowledged when they are received.
    AcknowledgedFirst,
    /// A reply that comes later changes the outcome.
    LateReplyCounts,
}

struct Fencing {
    engines: usize,
    replies: u8,
    defect: Option<Defect>,
}

/// The stored saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Saga {
    version: u8,
    /// Which reply was taken; 0 if none was.
    outcome: u8,
    has_fired: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Engine {
    loaded: Option<Saga>,
    /// Messages that it has received and not settled.
    holds: u8,
    /// Messages that it has settled and not acknowledged.
    settled: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    stored: Saga,
    engines: Vec<Engine>,
    acknowledged: u8,
    /// How often an outcome was committed, and the timer.
    outcomes: u8,
    firings: u8,
    has_forked: bool,
    has_conflicted: bool,
}

/// How a commit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Commit {
    Succeeds,
    Fails,
    SeemsToFail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    Receive(usize, u8),
    Load(usize),
    Commit(usize, Commit),
    Acknowledge(usize),
    Crash(usize),
}

impl Fencing {
    fn new(defect: Option<Defect>) -> Self {
        Self { engines: 2, replies: REPLIES + super::size(), defect }
    }

    fn messages(&self) -> impl Iterator<Item = u8> + use<> {
        (0..self.replies).map(|it| 1 << it).chain([TIMER])
    }

    /// Decides on messages, one after the other.
    fn decide(&self, mut saga: Saga, messages: u8) -> Saga {
        for message in self.messages().filter(|it| messages & it != 0) {
            let is_open = saga.outcome == 0 || self.defect == Some(Defect::LateReplyCounts);
            if message == TIMER {
                saga.has_fired |= saga.outcome == 0;
            } else if is_open {
                saga.outcome = message;
            }
        }
        saga
    }

    fn commit(&self, state: &mut State, at: usize, how: Commit) -> Option<()> {
        let engine = state.engines[at];
        let loaded = engine.loaded?;
        if engine.holds == 0 {
            return None;
        }
        let decided = self.decide(loaded, engine.holds);
        if decided == loaded {
            // Nothing to commit: what it holds means nothing any more.
            state.engines[at].settled |= engine.holds;
            state.engines[at].holds = 0;
            return (how == Commit::Succeeds).then_some(());
        }
        let is_current = loaded.version == state.stored.version;
        if how == Commit::Fails || (!is_current && self.defect != Some(Defect::NoVersionCheck)) {
            state.has_conflicted |= !is_current;
            state.engines[at].loaded = None;
            return Some(());
        }
        state.has_forked |= !is_current;
        state.outcomes += u8::from(decided.outcome != loaded.outcome);
        state.firings += u8::from(decided.has_fired != loaded.has_fired);
        state.stored = Saga { version: loaded.version + 1, ..decided };
        if how == Commit::SeemsToFail {
            state.engines[at].loaded = None;
        } else {
            let settled = engine.settled | engine.holds;
            state.engines[at] = Engine { loaded: Some(state.stored), holds: 0, settled };
        }
        Some(())
    }
}

impl Model for Fencing {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            stored: Saga { version: 1, ..Saga::default() },
            engines: vec![Engine::default(); self.engines],
            acknowledged: 0,
            outcomes: 0,
            firings: 0,
            has_forked: false,
            has_conflicted: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, engine) in state.engines.iter().enumerate() {
            let there = self.messages().filter(|it| (state.acknowledged | engine.holds) & it == 0);
            actions.extend(there.map(|it| Action::Receive(at, it)));
            if engine.loaded.is_none() {
                actions.push(Action::Load(at));
            }
            let commits = [Commit::Succeeds, Commit::Fails, Commit::SeemsToFail];
            actions.extend(commits.map(|it| Action::Commit(at, it)));
            if engine.settled != 0 {
                actions.push(Action::Acknowledge(at));
            }
            if *engine != Engine::default() {
                actions.push(Action::Crash(at));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Receive(at, message) => {
                next.engines[at].holds |= message;
                if self.defect == Some(Defect::AcknowledgedFirst) {
                    next.acknowledged |= message & !TIMER;
                }
            }
            Action::Load(at) => next.engines[at].loaded = Some(next.stored),
            Action::Commit(at, how) => self.commit(&mut next, at, how)?,
            Action::Acknowledge(at) => {
                next.acknowledged |= next.engines[at].settled & !TIMER;
                next.engines[at].settled = 0;
            }
            Action::Crash(at) => next.engines[at] = Engine::default(),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(I10, |_, state: &State| !state.has_forked),
            Property::always(I2, |_, state: &State| state.outcomes <= 1),
            Property::always(L4, |_, state: &State| state.firings <= 1),
            Property::always(I6, |_, state: &State| {
                state.acknowledged == 0 || state.stored.outcome != 0
            }),
            Property::sometimes("a conflict", |_, state: &State| state.has_conflicted),
            Property::sometimes("a late reply", |_, state: &State| {
                let settled = state.engines.iter().map(|it| it.settled & !TIMER);
                settled.fold(state.acknowledged, |all, it| all | it).count_ones() > 1
            }),
            Property::sometimes("a timer that fires", |_, state: &State| state.firings == 1),
            Property::sometimes("all is acknowledged", |model: &Self, state: &State| {
                state.acknowledged.count_ones() == u32::from(model.replies)
            }),
        ]
    }
}

const I2: &str = "I2: one outcome";
const I6: &str = "I6: acknowledged after it is durable";
const I10: &str = "I10: no fork";
const L4: &str = "L4: a timer fires once";

/// F13, F71, I2, I6, I10.
#[test]
fn engines_that_do_not_know_of_each_other_never_fork_a_saga() {
    super::holds(Fencing::new(None));
}

#[test]
fn i10_a_store_that_checks_no_version_is_seen() {
    super::breaks(Fencing::new(Some(Defect::NoVersionCheck)), I10);
}

#[test]
fn i6_an_engine_that_acknowledges_first_is_seen() {
    super::breaks(Fencing::new(Some(Defect::AcknowledgedFirst)), I6);
}

#[test]
fn i2_a_late_reply_that_counts_is_seen() {
    super::breaks(Fencing::new(Some(Defect::LateReplyCounts)), I2);
}
