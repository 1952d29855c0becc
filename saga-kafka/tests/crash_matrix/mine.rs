//! What goes wrong in a process: one call, once.

use std::future::Future;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use saga_core::message::{Envelope, Kind as EnvelopeKind, Outcome};
use saga_core::transport::Delivery;
use saga_core::{HandlerError, StoreError, TransportError};

use super::points::{Call, Case, Fault, Kind, Moment, Point, Service, Since};
use super::shop::UNDONE;

/// What a process writes when its call goes wrong.
pub(crate) const WENT_WRONG: &str = "the call went wrong";

/// Longer than a subscriber waits before it commits what is acknowledged.
const STILL_BEFORE_DEATH: Duration = Duration::from_millis(1_500);
const STANDSTILL: Duration = Duration::from_secs(2);

/// What is to go wrong in this process.
#[derive(Debug, Clone)]
pub(crate) struct Mine {
    case: Option<Arc<Case>>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: AtomicBool,
    passed: AtomicU32,
    went_off: AtomicBool,
    /// It dies in a second, or stands still.
    is_at_it: AtomicBool,
    /// The process recovers from a death at the same point.
    is_second: bool,
}

impl Mine {
    /// Lays a mine in the process that lives this life, from 0.
    pub(crate) fn new(case: &Case, life: u32) -> Self {
        let is_laid = life == 0 || (life == 1 && case.fault == Fault::KillTwice);
        let state = State { is_second: life > 0, ..State::default() };
        let mine = Self { case: is_laid.then(|| Arc::new(case.clone())), state: Arc::new(state) };
        mine.since(Since::Begin);
        mine
    }

    /// Returns true if nothing more is to go wrong.
    pub(crate) fn is_over(&self) -> bool {
        let went_off = self.state.went_off.load(Ordering::SeqCst);
        let is_over = self.case.is_none() || self.state.is_second || went_off;
        is_over && !self.state.is_at_it.load(Ordering::SeqCst)
    }

    /// Notes what happened, since when calls may count.
    pub(crate) fn since(&self, what: Since) {
        if self.case.as_ref().is_some_and(|case| case.point.since == what) {
            self.state.counts.store(true, Ordering::SeqCst);
        }
    }

    pub(crate) fn received(&self, service: Service, deliveries: &[Delivery]) {
        let is_ours = self.case.as_ref().is_some_and(|case| case.point.service == service);
        for kind in deliveries.iter().filter_map(kind).filter(|_| is_ours) {
            self.since(Since::Received(kind));
        }
    }

    /// Returns what goes wrong in a call, once.
    pub(crate) fn strikes(&self, service: Service, call: Call) -> Option<(Fault, Moment)> {
        let case = self.case.as_ref()?;
        let point = &case.point;
        let counts = self.state.counts.load(Ordering::SeqCst) && point.service == service;
        let next = self.state.is_second && Self::is_next(point, call, counts);
        if !next && (!counts || point.call != call) {
            return None;
        }
        // What passed before the first death has not to pass again.
        let is_repeated = self.state.is_second && point.since == Since::Begin;
        let pass = if is_repeated { 0 } else { point.pass };
        if self.state.passed.fetch_add(1, Ordering::SeqCst) < pass && !next {
            return None;
        }
        let is_first = !self.state.went_off.swap(true, Ordering::SeqCst);
        is_first.then_some((case.fault, point.moment))
    }

    /// Returns true for where a process dies that recovers from a death, if the point does not come again.
    const fn is_next(point: &Point, call: Call, counts: bool) -> bool {
        let settles = matches!(call, Call::Acknowledge | Call::Settled | Call::Sent);
        match (point.moment, point.call) {
            // Nothing comes again; but it looks for what is due.
            (Moment::Later, _) => matches!(call, Call::Due),
            (_, Call::Settled | Call::Sent) => settles,
            _ => settles && counts,
        }
    }

    /// Returns true if it is this call that fails, now.
    pub(crate) fn fails(&self, service: Service, call: Call) -> bool {
        let is_error = self.case.as_ref().is_some_and(|case| case.fault == Fault::Error);
        is_error && self.strikes(service, call).is_some()
    }

    /// Makes a call, in which something may go wrong.
    pub(crate) async fn around<T, E: Unavailable>(
        &self,
        service: Service,
        call: Call,
        work: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        let Some((fault, moment)) = self.strikes(service, call) else { return work.await };
        match fault {
            Fault::Error => {
                say_so();
                Err(E::unavailable())
            }
            Fault::ReportedAsFailed => {
                work.await?;
                say_so();
                Err(E::unavailable())
            }
            Fault::StandsStill => {
                if moment == Moment::Before {
                    self.stand_still().await;
                    return work.await;
                }
                let result = work.await;
                self.stand_still().await;
                result
            }
            Fault::Kill | Fault::KillTwice => match moment {
                Moment::Before => die(),
                Moment::Still => {
                    tokio::time::sleep(STILL_BEFORE_DEATH).await;
                    die()
                }
                Moment::During(time) => {
                    // At least once it is polled, so that it is on its way.
                    let _ = tokio::time::timeout(time, work).await;
                    die()
                }
                Moment::After => {
                    let _ = work.await;
                    die()
                }
                Moment::Later => {
                    let result = work.await;
                    self.die_later();
                    result
                }
            },
        }
    }

    /// A call of the application, or one that cannot fail.
    pub(crate) fn at(&self, service: Service, call: Call, at: Moment) {
        let Some(case) = self.case.as_ref() else { return };
        let is_elsewhere = case.point.moment != at && case.point.moment != Moment::Later;
        if case.point.call == call && is_elsewhere || case.fault == Fault::Error {
            return;
        }
        match self.strikes(service, call) {
            Some((_, Moment::Later)) => self.die_later(),
            Some(_) => die(),
            None => {}
        }
    }

    /// Long enough for all others to go on.
    async fn stand_still(&self) {
        say_so();
        self.state.is_at_it.store(true, Ordering::SeqCst);
        tokio::time::sleep(STANDSTILL).await;
        self.state.is_at_it.store(false, Ordering::SeqCst);
    }

    fn die_later(&self) {
        say_so();
        self.state.is_at_it.store(true, Ordering::SeqCst);
        tokio::spawn(async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            std::process::abort()
        });
    }

    /// A handler's part before or after its effect.
    pub(crate) async fn in_handler(&self, call: Call) -> Result<(), HandlerError> {
        self.around(Service::Participant, call, async { Ok(()) }).await
    }
}

pub(crate) fn say_so() {
    // Not through the test's capture, which a dying process does not write.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "\n{WENT_WRONG}");
    let _ = out.flush();
}

pub(crate) fn die() -> ! {
    say_so();
    std::process::abort()
}

/// An error that says that nobody was reached.
pub(crate) trait Unavailable {
    fn unavailable() -> Self;
}

impl Unavailable for StoreError {
    fn unavailable() -> Self {
        Self::Unavailable { operation: "mined", source: "it goes wrong here".into() }
    }
}

impl Unavailable for TransportError {
    fn unavailable() -> Self {
        Self::Unavailable { operation: "mined", source: "it goes wrong here".into() }
    }
}

impl Unavailable for HandlerError {
    fn unavailable() -> Self {
        "it goes wrong here".into()
    }
}

/// Reads what a delivery is about.
fn kind(delivery: &Delivery) -> Option<Kind> {
    let envelope = Envelope::decode(delivery.value.clone()).ok()?;
    Some(match envelope.kind {
        EnvelopeKind::Fact => Kind::Fact,
        EnvelopeKind::Command(command) if command.compensates.is_some() => Kind::Compensation,
        EnvelopeKind::Command(_) => Kind::Command,
        EnvelopeKind::Reply(reply) => match reply.outcome {
            Outcome::Succeeded if envelope.message_type == UNDONE => Kind::Compensated,
            Outcome::Succeeded => Kind::Success,
            Outcome::Rejected(_) => Kind::Refusal,
            _ => Kind::Failure,
        },
    })
}
