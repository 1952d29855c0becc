//! Which call of a faulty store fails, and when.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use saga_core::StoreError;
use tokio::sync::watch;

/// A kind of call to a store.
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
    /// `history`.
    History,
    /// `recorded`.
    Recorded,
    /// `record`.
    Record,
    /// Whatever makes decisions durable: [`Commit`](Self::Commit) and [`Record`](Self::Record), counted together.
    Write,
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
            Self::History => "history",
            Self::Recorded => "recorded",
            Self::Record => "record",
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

/// The script of one or more [`Faulty`](crate::Faulty) stores. Clones are handles to the same script.
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
struct Fault {
    operation: Operation,
    nth: u64,
    moment: Moment,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Fail,
    Kill,
}

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
    Dead,
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

    /// Lets every call fail with [`StoreError::Unavailable`] and without effect, until [`revive`](Self::revive).
    pub fn outage(&self) {
        self.set(Condition::Away);
    }

    /// Ends an outage or a death. Faults that are still ahead stay.
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

    /// Returns how many calls of `operation` were made. Calls during an outage or a death do not count.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        self.script().count(operation)
    }

    /// Makes a call, unless a fault strikes before it, and tells what came of it, unless one strikes after it.
    pub(crate) async fn around<T: Send>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.survive(operation).await?;
        let fault = self.script().next(operation);
        self.strike(fault, Moment::Before, operation).await?;
        let result = call.await;
        self.strike(fault, Moment::After, operation).await?;
        // An outage that began meanwhile lets what is under way end; a death does not.
        if self.shared.health.borrow().condition == Condition::Dead {
            self.survive(operation).await?;
        }
        result
    }

    async fn strike(
        &self,
        fault: Option<Fault>,
        moment: Moment,
        operation: Operation,
    ) -> Result<(), StoreError> {
        match fault.filter(|fault| fault.moment == moment).map(|fault| fault.kind) {
            None => Ok(()),
            Some(Kind::Fail) => Err(unavailable(operation)),
            Some(Kind::Kill) => {
                self.set(Condition::Dead);
                self.survive(operation).await
            }
        }
    }

    /// Fails during an outage, and after a death once it is over.
    async fn survive(&self, operation: Operation) -> Result<(), StoreError> {
        let Health { condition, revivals } = *self.shared.health.borrow();
        match condition {
            Condition::Well => Ok(()),
            Condition::Away => Err(unavailable(operation)),
            Condition::Dead => {
                self.wait_until(|health| health.revivals > revivals).await;
                Err(unavailable(operation))
            }
        }
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

fn unavailable(operation: Operation) -> StoreError {
    StoreError::Unavailable { operation: operation.name(), source: "a planned fault".into() }
}
