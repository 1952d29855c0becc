//! One run: a saga from its start to its end, with everything that a plan lets go wrong.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use saga_core::machine::{HistoryEntry, Operation as Act, OperatorAction};
use saga_core::{Engine, Error, IdempotencyKey, SagaId, Status};
use tokio::sync::watch;
use uuid::Uuid;

use super::clock::SimulatedClock;
use super::defect::Defect;
use super::judge;
use super::plan::{Plan, Service};
use super::scene::{Scene, Seen, Sent};
use super::services::{Lives, World};
use super::subject::Subject;
use crate::{Faults, Operation};

/// Simulated time in which every saga must end.
const PATIENCE: Duration = Duration::from_hours(24);
/// Simulated time after the last answer that may come late, and after all was heard, in which nothing may happen any more.
const AFTERMATH: Duration = Duration::from_secs(5);
/// Simulated time in which what was committed must be sent and deleted, also by one that stood still, and in which
/// those who only listen must have heard of it.
const UNTIL_HEARD: Duration = Duration::from_mins(5);
/// Each run has the same saga, so that a plan is played in the same way each time.
const SAGA: SagaId = SagaId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
/// How often a person tries again what is parked.
const OPERATIONS_MAX: usize = 5;

/// What became of a run.
pub(super) struct Run {
    pub(super) status: Status,
    pub(super) sent: Vec<Sent>,
    pub(super) seen: Seen,
    /// How many commits of the saga there were when it came to rest first.
    pub(super) commits: usize,
    /// All that happened, in order.
    pub(super) story: Vec<String>,
    /// How often each service called, in its first life.
    pub(super) calls: Vec<(Service, Operation, u64)>,
}

/// Why a run proves that something is wrong.
pub(super) struct Flaw {
    pub(super) what: String,
    pub(super) story: Vec<String>,
}

/// Plays a plan in a world of its own.
pub(super) fn play<P: Subject>(subject: &P, plan: &Plan) -> Result<Run, Flaw> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("the system has what a runtime needs");
    Defect::plant(plan.defect);
    runtime.block_on(async {
        let scene = Scene::new(SimulatedClock::new(), subject.saga().definition(), plan);
        let played = tokio::time::timeout(PATIENCE, play_in(subject, plan, &scene)).await;
        played
            .unwrap_or_else(|_| Err("it does not end within a day".to_owned()))
            .map_err(|what| Flaw { what, story: scene.story() })
    })
}

async fn play_in<P: Subject>(subject: &P, plan: &Plan, scene: &Scene) -> Result<Run, String> {
    let world = World::new(subject, scene.clone());
    let orchestrator = Lives::new(Service::Orchestrator, plan);
    let spare = Lives::new(Service::Spare, plan);
    let participants = Lives::new(Service::Participants, plan);
    let (engine, second) = (watch::Sender::new(None), watch::Sender::new(None));
    let client = Client { engine: &engine, scene };
    let ended = tokio::select! {
        biased;
        ended = client.order(&world, plan) => ended,
        () = world.orchestrate(&orchestrator, &engine) => unreachable!("it lives again and again"),
        () = world.orchestrate(&spare, &second), if plan.has_spare => unreachable!("it lives again and again"),
        () = world.participate(&participants) => unreachable!("they live again and again"),
    };
    let (status, history) = ended?;
    judge::judge(&world, status, &history).await?;
    let calls = [
        (Service::Orchestrator, &orchestrator.first),
        (Service::Participants, &participants.first),
    ];
    let calls = calls.into_iter().flat_map(|(service, faults)| calls_of(service, faults)).collect();
    let (sent, seen, commits, story) = (scene.sent(), scene.seen(), scene.commits(), scene.story());
    Ok(Run { status, sent, seen, commits, story, calls })
}

fn calls_of(
    service: Service,
    faults: &Faults,
) -> impl Iterator<Item = (Service, Operation, u64)> + use<'_> {
    let operations = [
        Operation::Write,
        Operation::Sent,
        Operation::BeginAttempts,
        Operation::EndAttempts,
        Operation::Publish,
        Operation::Acknowledge,
    ];
    operations.into_iter().map(move |it| (service, it, faults.calls(it)))
}

/// Who wants the saga, and asks again if nobody answers.
struct Client<'a> {
    engine: &'a watch::Sender<Option<Engine>>,
    scene: &'a Scene,
}

impl Client<'_> {
    /// Starts the saga, lets it end, and looks at it once more later.
    async fn order<P: Subject>(
        &self,
        world: &World<'_, P>,
        plan: &Plan,
    ) -> Result<(Status, Vec<HistoryEntry>), String> {
        let saga = self.ask(async |engine| {
            let key = IdempotencyKey::new("proof").expect("a short key");
            Ok(engine.start_as(SAGA, key, world.subject.data()).await?.saga())
        });
        let saga = saga.await?;
        if let Some(commits) = plan.cancel_after {
            self.cancel(saga, commits).await?;
        }
        let mut status = self.outcome(saga).await?;
        self.scene.over();
        for _ in 0..OPERATIONS_MAX {
            self.scene.tell(format_args!("the saga is {status}"));
            tokio::time::sleep(self.scene.latest() + AFTERMATH).await;
            status = self.outcome(saga).await?;
            if status.is_final() {
                break;
            }
            self.scene.heal();
            let is_granted = self.retry(saga).await?;
            status = self.outcome(saga).await?;
            if !is_granted && !status.is_final() {
                break;
            }
        }
        let heard = async {
            let holds = || !status.is_final() || judge::check(world, status).is_ok();
            while world.unsent().await != [0; 2] || !holds() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        // What never is finds its judge.
        let _ = tokio::time::timeout(UNTIL_HEARD, heard).await;
        // Nor may it be heard of twice.
        tokio::time::sleep(AFTERMATH).await;
        let history = self.ask(async |engine| engine.history(saga).await).await?;
        Ok((status, history))
    }

    /// Wants the saga undone as soon as there were so many commits of it, or it is over.
    async fn cancel(&self, saga: SagaId, commits: usize) -> Result<(), String> {
        tokio::select! {
            biased;
            () = self.scene.has_committed(commits) => {}
            over = self.outcome(saga) => drop(over?),
        }
        self.scene.tell("somebody wants it undone");
        self.is_granted(self.ask_once(async |engine| engine.cancel(saga).await).await)?;
        Ok(())
    }

    /// Does what a person does with a parked saga once the trouble is over.
    ///
    /// Returns false if that is refused: what was rejected after the pivot would be rejected again.
    async fn retry(&self, saga: SagaId) -> Result<bool, String> {
        self.scene.tell("a person has it tried again");
        self.scene.count(|seen| seen.operations += 1);
        let retry = || {
            let (by, reason) = ("a person".to_owned(), "the trouble is over".to_owned());
            Act { by, reason, action: OperatorAction::Retry }
        };
        self.is_granted(self.ask_once(async |engine| engine.operate(saga, retry()).await).await)
    }

    async fn outcome(&self, saga: SagaId) -> Result<Status, String> {
        self.ask(async |engine| engine.outcome(saga).await).await
    }

    fn is_granted(&self, asked: Result<(), Error>) -> Result<bool, String> {
        match asked {
            Ok(()) => Ok(true),
            Err(Error::Refused { reason, .. }) => {
                self.scene.tell(format_args!("refused: {reason}"));
                Ok(false)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    async fn ask<T>(&self, call: impl AsyncFn(&Engine) -> Result<T, Error>) -> Result<T, String> {
        self.ask_once(call).await.map_err(|error| error.to_string())
    }

    /// Asks the orchestrator, and again as long as it crashes over the answer.
    async fn ask_once<T>(
        &self,
        call: impl AsyncFn(&Engine) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            let engine = self.engine().await;
            match AssertUnwindSafe(call(&engine)).catch_unwind().await {
                Ok(Err(Error::Stopped | Error::Store(_))) | Err(_) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Ok(answered) => return answered,
            }
        }
    }

    /// Waits until the orchestrator lives.
    async fn engine(&self) -> Engine {
        let mut engines = self.engine.subscribe();
        let alive = engines.wait_for(Option::is_some).await.expect("the run keeps the sender");
        (*alive).clone().expect("that was waited for")
    }
}
