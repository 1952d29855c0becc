//! The points at which a process can die, and what can go wrong at each.
//!
//! Between two calls of a contract an engine or a participant changes nothing that outlives it, so each
//! point is one side of a call, or lies in the middle of it.

use std::fmt;
use std::time::Duration;

use super::paths::{adverse, local, points, publishing};

/// What a saga goes through in a run, chosen so that what a point is about happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Started by a caller; completes.
    Called,
    /// Its last step is refused, and two are undone.
    Refused,
    /// A step fails at its first attempt; a timer fires before the second.
    Retried,
    /// A step fails for good, and a person skips it.
    Parked,
    /// Started by a fact that an application enqueued.
    Told,
    /// Started by a fact that had been set aside.
    Redriven,
    /// The first command reaches its participant after its compensation.
    Overtaken,
    /// The reply to the first command comes when the step is being undone.
    LateReply,
    /// The reply to the first command comes when it was asked for again.
    AskedAgain,
    /// Two engines go on with it, of which one stands still in the middle.
    Doubled,
    /// Started by a caller; the engine carries out its steps by itself, one of them at the second attempt.
    Local,
    /// The same, but its last step is refused, and two are undone.
    LocalRefused,
}

impl Scenario {
    /// Returns true if the engine carries out the steps by itself.
    pub(crate) const fn is_local(self) -> bool {
        matches!(self, Self::Local | Self::LocalRefused)
    }

    /// Returns true if some message is late.
    pub(crate) const fn is_late(self) -> bool {
        matches!(self, Self::Overtaken | Self::LateReply | Self::AskedAgain)
    }
}

/// Who makes the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Engine,
    /// The second of two, in which nothing goes wrong.
    OtherEngine,
    Participant,
    Relay,
}

/// A call of a contract, or one that the application makes or answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Receive,
    Begin,
    Recorded,
    /// The handler, before its effect.
    Handle,
    /// The handler, after its effect.
    Handled,
    /// `commit` of the engine, `record` of a participant.
    Commit,
    /// `commit_with` of an engine that carries out steps by itself.
    CommitWith,
    Acknowledge,
    Redriven,
    Settled,
    Due,
    Unsent,
    Publish,
    /// The broker's acknowledgement of what was published.
    Receipt,
    Sent,
    Start,
    Operate,
}

/// Since when a call counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// Since the process began.
    Begin,
    /// Since a message of this kind was received.
    Received(Kind),
    /// Since a letter was handed out.
    Redriven,
    /// Since the application asked for something, or a person did.
    Asked,
}

/// The kinds of message that take the way from a topic to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Fact,
    Command,
    Success,
    /// An attempt that failed, so that a timer is set.
    Failure,
    Refusal,
    Compensation,
    Compensated,
}

/// Where in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    Before,
    /// Before, when nothing has been done for a second and a half.
    Still,
    /// This long after it began, if it is not over then.
    During(Duration),
    After,
    /// A second after it.
    Later,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies.
    Kill,
    /// It dies, and dies again at the same point, or at the next acknowledgement, while it recovers.
    KillTwice,
    /// The call fails without an effect.
    Error,
    /// The call has its effect and seems to fail.
    ReportedAsFailed,
    /// The process stands still for two seconds, and goes on as if nothing had been.
    StandsStill,
}

/// A side of a call.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    /// Its name in the literature of crash tests: P0 to P10 for messages, R, T, H and O; and L for local steps.
    pub(crate) name: &'static str,
    pub(crate) of: &'static str,
    pub(crate) scenario: Scenario,
    pub(crate) service: Service,
    pub(crate) since: Since,
    pub(crate) call: Call,
    /// How many such calls pass before it.
    pub(crate) pass: u32,
    pub(crate) moment: Moment,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, of, service, call, moment, .. } = self;
        write!(f, "{name} of {of} ({service:?}, {call:?}, {moment:?})")
    }
}

impl Point {
    /// Returns what can go wrong at this point besides death.
    fn faults(&self) -> Vec<Fault> {
        use Call::{
            Begin, Commit, CommitWith, Due, Handle, Handled, Operate, Publish, Receipt, Recorded,
            Redriven, Sent, Settled, Start, Unsent,
        };
        if self.scenario == Scenario::Doubled {
            return vec![Fault::StandsStill];
        }
        // What was late once is on time after a second death.
        if self.scenario.is_late() || self.moment == Moment::Still {
            return vec![Fault::Kill];
        }
        let mut faults = vec![Fault::Kill, Fault::KillTwice];
        let can_fail = match self.call {
            Begin | Recorded | Handle | Handled | Commit | CommitWith | Redriven | Settled
            | Due | Unsent | Publish | Sent => true,
            Call::Receive | Call::Acknowledge | Receipt | Start | Operate => false,
        };
        let can_lie = matches!(
            self.call,
            Commit | CommitWith | Redriven | Settled | Sent | Publish | Receipt
        );
        // A message that came has come; but the next one may not.
        if can_fail && self.moment != Moment::After || self.call == Call::Receive {
            faults.push(Fault::Error);
        }
        if can_lie && self.moment != Moment::Before {
            faults.push(Fault::ReportedAsFailed);
        }
        faults
    }
}

/// A point with what goes wrong there.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) number: usize,
    pub(crate) point: Point,
    pub(crate) fault: Fault,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "case {}: {:?} at {}", self.number, self.fault, self.point)
    }
}

/// Returns the points beside those of [`points`].
pub(crate) fn others() -> impl Iterator<Item = Point> {
    publishing().chain(local()).chain(adverse())
}

/// Returns every point with every fault that it can have.
pub(crate) fn cases() -> Vec<Case> {
    let points: Vec<_> = points().into_iter().chain(others()).collect();
    let cases =
        points.iter().flat_map(|point| point.faults().into_iter().map(move |it| (point, it)));
    let numbered = cases.enumerate();
    numbered.map(|(number, (point, fault))| Case { number, point: point.clone(), fault }).collect()
}
