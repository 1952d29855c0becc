//! The services of a run: each lives until it crashes, and then lives again.

use std::time::Duration;

use saga_core::store::{Lane, OutboxRow};
use saga_core::{Engine, MemoryStore, Outbox as _, Participant, ParticipantName};
use tokio::sync::watch;

use super::network::Network;
use super::plan::{Deed, Plan, Service};
use super::planted::{Cursors, Planted};
use super::scene::Scene;
use super::subject::Subject;
use super::witness::Witness;
use crate::{Faults, Faulty};

/// The name of the service whose saga is proved.
pub(super) const ORCHESTRATOR: ParticipantName = ParticipantName::new("proof-orchestrator");

/// How long a service is away after a crash.
const AWAY: Duration = Duration::from_millis(500);

/// What survives every crash.
pub(super) struct World<'a, P: Subject> {
    pub(super) subject: &'a P,
    pub(super) scene: Scene,
    pub(super) sagas: MemoryStore,
    pub(super) store: P::Store,
    network: Network,
    read: Cursors,
}

impl<'a, P: Subject> World<'a, P> {
    pub(super) fn new(subject: &'a P, scene: Scene) -> Self {
        let sagas = MemoryStore::new().clock(scene.clock().clone());
        let store = subject.store(scene.clock());
        let network = Network::new(&scene, &sagas);
        Self { subject, scene, sagas, store, network, read: Cursors::default() }
    }

    /// Keeps an orchestrator alive, and hands out each of its lives.
    pub(super) async fn orchestrate(
        &self,
        lives: &Lives<'_>,
        engine: &watch::Sender<Option<Engine>>,
    ) {
        for faults in lives.each() {
            let defect = lives.plan.defect;
            let store = Planted::new(self.sagas.clone(), defect).reading(&self.read);
            let store = Witness::new(store, &self.scene);
            let network = Planted::new(self.network.clone(), defect);
            let builder = Engine::builder(ORCHESTRATOR, Faulty::new(store, &faults))
                .saga(self.subject.saga())
                .transport(Faulty::new(network, &faults))
                .clock(self.scene.clock().clone());
            let started = builder.start();
            engine.send_replace(Some(started.unwrap_or_else(|error| {
                panic!("the saga cannot be run: {error}");
            })));
            self.death(lives.service, &faults).await;
            engine.send_replace(None);
            tokio::time::sleep(AWAY).await;
        }
    }

    /// Keeps the participants alive.
    pub(super) async fn participate(&self, lives: &Lives<'_>) {
        for faults in lives.each() {
            let store = Planted::new(self.store.clone(), lives.plan.defect).reading(&self.read);
            let store = Witness::new(store, &self.scene);
            let network = Planted::new(self.network.clone(), lives.plan.defect);
            let start = |participant: Participant<_>| {
                let store = Faulty::new(store.clone(), &faults);
                participant.start(store, Faulty::new(network.clone(), &faults))
            };
            let running: Vec<_> = self.subject.participants().into_iter().map(start).collect();
            self.death(lives.service, &faults).await;
            drop(running);
            tokio::time::sleep(AWAY).await;
        }
    }

    async fn death(&self, service: Service, faults: &Faults) {
        faults.crashed().await;
        self.scene.tell(format_args!("{service} crash"));
        self.scene.count(|seen| seen.crashes += 1);
        for (lanes, rows) in self.outboxes().await {
            self.scene.audit(|audit| audit.waiting(&lanes, &rows));
        }
    }

    /// Returns how many rows of the orchestrator and of the participants are in the outbox.
    pub(super) async fn unsent(&self) -> [usize; 2] {
        self.outboxes().await.map(|(_, rows)| rows.len())
    }

    /// Returns the lanes of the orchestrator and those of the participants, and what is in the outbox for them.
    async fn outboxes(&self) -> [(Vec<Lane>, Vec<OutboxRow>); 2] {
        let lanes = self.scene.audit(|audit| audit.lanes());
        let (own, others): (Vec<_>, Vec<_>) =
            lanes.into_iter().partition(|lane| *lane.owner() == ORCHESTRATOR);
        let sagas = self.sagas.unsent(&own, usize::MAX).await.expect("it is in memory");
        let store = self.store.unsent(&others, usize::MAX).await.expect("no fault is planned here");
        [(own, sagas), (others, store)]
    }
}

/// What befalls a service, life after life.
pub(super) struct Lives<'a> {
    service: Service,
    plan: &'a Plan,
    /// Of the first life.
    pub(super) first: Faults,
}

impl<'a> Lives<'a> {
    pub(super) fn new(service: Service, plan: &'a Plan) -> Self {
        Self { service, plan, first: Faults::new() }
    }

    fn each(&self) -> impl Iterator<Item = Faults> + use<'_, 'a> {
        (0..).map(|life| {
            let faults = if life == 0 { self.first.clone() } else { Faults::new() };
            let fits = |it: &&super::plan::Fault| it.service == self.service && it.life == life;
            for fault in self.plan.faults.iter().filter(fits) {
                let (operation, nth, moment) = (fault.operation, fault.nth, fault.moment);
                match fault.deed {
                    Deed::Crash => faults.crash_at(operation, nth, moment),
                    Deed::Fail => faults.fail_at(operation, nth, moment),
                    Deed::Pause(duration) => faults.pause_at(operation, nth, moment, duration),
                }
            }
            faults
        })
    }
}
