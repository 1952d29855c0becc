//! Which call of a faulty store or transport fails, and when.

use std::collections::HashMap;
use std::future::Future;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use saga_core::{StoreError, TransportError};
use tokio::sync::watch;
use tokio::time::Instant;

/// A kind of call to a store or a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// `begin`.
    Begin,
    /// `unsent`.
    Unsent,
    /// `sent`.
    Sent,
    /// `lease`.
    Lease,
    /// `load`.
    Load,
    /// `find`.
    Find,
    /// `commit` and `commit_with`.
    Commit,
    /// `due`.
    Due,
    /// `list`.
    List,
    /// `history`.
    History,
    /// `recorded`.
    Recorded,
    /// `record`.
    Record,
    /// `begin_attempts`.
    BeginAttempts,
    /// `unfinished`.
    Unfinished,
    /// `end_attempts`.
    EndAttempts,
    /// `redriven`.
    Redriven,
    /// `settled`.
    Settled,
    /// `held`.
    Held,
    /// `publish`.
    Publish,
    /// `receive`.
    Receive,
    /// `acknowledge`.
    Acknowledge,
    /// Whatever makes decisions durable: [`Commit`](Self::Commit) and [`Record`](Self::Record), counted together.
    Write,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Operation {
    const fn name(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Unsent => "unsent",
            Self::Sent => "sent",
            Self::Lease => "lease",
            Self::Load => "load",
            Self::Find => "find",
            Self::Commit => "commit",
            Self::Due => "due",
            Self::List => "list",
            Self::History => "history",
            Self::Recorded => "recorded",
            Self::Record => "record",
            Self::BeginAttempts => "begin_attempts",
            Self::Unfinished => "unfinished",
            Self::EndAttempts => "end_attempts",
            Self::Redriven => "redriven",
            Self::Settled => "settled",
            Self::Held => "held",
            Self::Publish => "publish",
            Self::Receive => "receive",
            Self::Acknowledge => "acknowledge",
            Self::Write => "write",
        }
    }

    /// Returns true if a call of `called` is one of these.
    const fn includes(self, called: Self) -> bool {
        match self {
            Self::Write => matches!(called, Self::Commit | Self::Record),
            _ => self as u8 == called as u8,
        }
    }
}

/// On which side of a call's effect a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The call has no effect.
    Before,
    /// The call has its effect, and the caller does not get to know.
    After,
}

/// The script of what one process uses: its [`Faulty`](crate::Faulty) stores and transports. Clones are handles to the same script.
///
/// Calls are counted from 1, over the whole life of the script. To try every crash point, run once
/// without a fault, read [`calls`](Self::calls), and then run again for each of them.
///
/// # Examples
///
/// ```
/// use saga_core::{MemoryStore, SagaStore, StoreError};
/// use saga_testkit::{Faults, Faulty, Moment, Operation};
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
///
/// let faults = Faults::new();
/// let store = Faulty::new(MemoryStore::new(), &faults);
/// faults.fail_at(Operation::Load, 2, Moment::Before);
///
/// assert!(store.load(&[]).await.is_ok());
/// assert!(matches!(store.load(&[]).await, Err(StoreError::Unavailable { .. })));
/// assert!(store.load(&[]).await.is_ok());
/// # });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Faults {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    script: Mutex<Script>,
    health: watch::Sender<Health>,
}

#[derive(Debug, Default)]
struct Script {
    calls: HashMap<Operation, u64>,
    planned: Vec<Fault>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    operation: Operation,
    nth: u64,
    moment: Moment,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Fail,
    Kill,
    Crash,
    Pause(Duration),
}

/// A call that failed because a script says so.
#[derive(Debug)]
pub(crate) struct Planned(Operation);

/// What a task of a crashed process unwinds with.
struct Crashed;

#[derive(Debug, Clone, Copy, Default)]
struct Health {
    condition: Condition,
    /// Tells a call that died that its time is over, even if the next death follows at once.
    revivals: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Condition {
    #[default]
    Well,
    Away,
    /// Nothing returns.
    Dead,
    /// Every task that calls unwinds.
    Crashed,
    /// Nothing returns before this.
    Paused(Instant),
}

impl Faults {
    /// Makes a script without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the `nth` call of `operation` fail with [`StoreError::Unavailable`]; the calls after it do not.
    pub fn fail_at(&self, operation: Operation, nth: u64, moment: Moment) {
        self.script().planned.push(Fault { operation, nth, moment, kind: Kind::Fail });
    }

    /// Lets the process die in the `nth` call of `operation`.
    ///
    /// That call, every other one in flight and every later one does not return until
    /// [`revive`](Self::revive). Stop what runs on the store before that, as a crash would have; what
    /// is not stopped gets [`StoreError::Unavailable`] then and goes on like a process that was paused.
    pub fn kill_at(&self, operation: Operation, nth: u64, moment: Moment) {
        self.script().planned.push(Fault { operation, nth, moment, kind: Kind::Kill });
    }

    /// Lets the process crash in the `nth` call of `operation`: that task ends there, and every other
    /// task of the process in its next call, or at once if it waits in one.
    ///
    /// They end by unwinding, without a message. Transactions that were open are rolled back.
    pub fn crash_at(&self, operation: Operation, nth: u64, moment: Moment) {
        self.script().planned.push(Fault { operation, nth, moment, kind: Kind::Crash });
    }

    /// Lets the process stand still for a while in the `nth` call of `operation`, and then go on as if
    /// no time had passed, though others may have taken over what it held.
    pub fn pause_at(&self, operation: Operation, nth: u64, moment: Moment, duration: Duration) {
        let kind = Kind::Pause(duration);
        self.script().planned.push(Fault { operation, nth, moment, kind });
    }

    /// Lets every call fail as unavailable and without effect, until [`revive`](Self::revive).
    pub fn outage(&self) {
        self.set(Condition::Away);
    }

    /// Ends an outage or a death; a crash is for ever. Faults that are still ahead stay.
    pub fn revive(&self) {
        self.shared.health.send_modify(|health| {
            health.condition = Condition::Well;
            health.revivals += 1;
        });
    }

    /// Waits until a planned death has happened; returns at once if it has.
    pub async fn killed(&self) {
        self.wait_until(|health| health.condition == Condition::Dead).await;
    }

    /// Waits until a planned crash has happened; returns at once if it has.
    pub async fn crashed(&self) {
        self.wait_until(|health| health.condition == Condition::Crashed).await;
    }

    /// Returns how many calls of `operation` were made. Calls during an outage or a death do not count.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        self.script().count(operation)
    }

    /// Makes a call, unless a fault strikes before it, and tells what came of it, unless one strikes after it.
    pub(crate) async fn around<T: Send, E: From<Planned>>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        let fault = self.before(operation).await?;
        let result = call.await;
        self.strike(fault, Moment::After, operation).await?;
        // An outage that began meanwhile lets what is under way end; a death does not.
        if self.condition() != Condition::Away {
            self.survive(operation).await?;
        }
        result
    }

    /// Counts a call, and returns the fault that was planned for it unless it strikes before the call.
    pub(crate) async fn before(&self, operation: Operation) -> Result<Option<Fault>, Planned> {
        self.survive(operation).await?;
        let fault = self.script().next(operation);
        self.strike(fault, Moment::Before, operation).await?;
        Ok(fault)
    }

    /// As [`around`](Self::around), for a call that does not wait. It cannot be killed or paused, only crash or fail.
    pub(crate) fn around_now<T>(
        &self,
        operation: Operation,
        call: impl FnOnce() -> T,
    ) -> Result<T, Planned> {
        match self.condition() {
            Condition::Crashed => unwind(),
            Condition::Away | Condition::Dead => return Err(Planned(operation)),
            Condition::Well | Condition::Paused(_) => {}
        }
        let fault = self.script().next(operation);
        self.strike_now(fault, Moment::Before)?;
        let output = call();
        self.strike_now(fault, Moment::After)?;
        Ok(output)
    }

    pub(crate) async fn strike(
        &self,
        fault: Option<Fault>,
        moment: Moment,
        operation: Operation,
    ) -> Result<(), Planned> {
        match fault.filter(|fault| fault.moment == moment).map(|fault| fault.kind) {
            None => Ok(()),
            Some(Kind::Fail) => Err(Planned(operation)),
            Some(Kind::Kill) => self.fall(Condition::Dead, operation).await,
            Some(Kind::Crash) => self.fall(Condition::Crashed, operation).await,
            Some(Kind::Pause(duration)) => {
                self.fall(Condition::Paused(Instant::now() + duration), operation).await
            }
        }
    }

    fn strike_now(&self, fault: Option<Fault>, moment: Moment) -> Result<(), Planned> {
        match fault.filter(|fault| fault.moment == moment) {
            None => Ok(()),
            Some(Fault { kind: Kind::Crash, .. }) => {
                self.set(Condition::Crashed);
                unwind()
            }
            Some(Fault { operation, .. }) => Err(Planned(operation)),
        }
    }

    async fn fall(&self, condition: Condition, operation: Operation) -> Result<(), Planned> {
        self.set(condition);
        self.survive(operation).await
    }

    /// Fails during an outage, and after a death once it is over; waits for the end of a pause.
    pub(crate) async fn survive(&self, operation: Operation) -> Result<(), Planned> {
        let revivals = self.shared.health.borrow().revivals;
        loop {
            match self.condition() {
                Condition::Well => return Ok(()),
                Condition::Away => return Err(Planned(operation)),
                Condition::Dead => {
                    self.wait_until(|health| health.revivals > revivals).await;
                    return Err(Planned(operation));
                }
                Condition::Crashed => unwind(),
                Condition::Paused(until) => {
                    tokio::time::sleep_until(until).await;
                    self.shared.health.send_if_modified(|health| {
                        let is_over = health.condition == Condition::Paused(until);
                        if is_over {
                            health.condition = Condition::Well;
                        }
                        is_over
                    });
                }
            }
        }
    }

    /// Waits until the process is no longer well.
    pub(crate) async fn trouble(&self) {
        self.wait_until(|health| health.condition != Condition::Well).await;
    }

    fn condition(&self) -> Condition {
        self.shared.health.borrow().condition
    }

    fn set(&self, condition: Condition) {
        self.shared.health.send_modify(|health| health.condition = condition);
    }

    async fn wait_until(&self, reached: impl Fn(&Health) -> bool + Send + Sync) {
        let mut health = self.shared.health.subscribe();
        health.wait_for(|health| reached(health)).await.expect("this script keeps the sender");
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.shared.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the task without a message: a process that crashes says nothing.
fn unwind() -> ! {
    resume_unwind(Box::new(Crashed))
}

impl Script {
    /// Counts a call and returns the fault that was planned for it.
    fn next(&mut self, called: Operation) -> Option<Fault> {
        *self.calls.entry(called).or_default() += 1;
        let strikes = |fault: &Fault| {
            fault.operation.includes(called) && fault.nth == self.count(fault.operation)
        };
        self.planned.iter().copied().find(strikes)
    }

    fn count(&self, operation: Operation) -> u64 {
        let calls = self.calls.iter().filter(|(called, _)| operation.includes(**called));
        calls.map(|(_, count)| count).sum()
    }
}

impl From<Planned> for StoreError {
    fn from(Planned(operation): Planned) -> Self {
        Self::Unavailable { operation: operation.name(), source: "a planned fault".into() }
    }
}

impl From<Planned> for TransportError {
    fn from(Planned(operation): Planned) -> Self {
        Self::Unavailable { operation: operation.name(), source: "a planned fault".into() }
    }
}
