//! A transport in memory that loses, doubles, holds back and answers what the scene says.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use saga_core::message::{Envelope, Kind, Outcome, ReplyHeaders};
use saga_core::transport::{
    MemoryPublisher, MemorySubscriber, MemoryTransport, Position, Receipt, Received, Record,
    Subscription,
};
use saga_core::{
    MemoryStore, MessageId, ParticipantName, Payload, Publisher, SagaStore as _, Subscriber, Topic,
    Transport, TransportError,
};

use super::scene::Scene;
use super::services::ORCHESTRATOR;
use super::trouble::TroubleKind;

/// The way between an orchestrator and its participants.
#[derive(Debug, Clone)]
pub(super) struct Network {
    topics: MemoryTransport,
    scene: Scene,
    /// Where it is looked up what came of a reply.
    sagas: MemoryStore,
}

/// What services publish with.
#[derive(Debug)]
pub(super) struct NetworkPublisher {
    inner: Arc<MemoryPublisher>,
    scene: Scene,
}

/// What services receive with.
#[derive(Debug)]
pub(super) struct NetworkSubscriber {
    inner: MemorySubscriber,
    scene: Scene,
    sagas: MemoryStore,
    /// A reply that anybody else takes is a fact to them.
    is_orchestrator: bool,
    /// The commands and replies that are delivered and not acknowledged.
    delivered: Vec<(Position, Envelope)>,
}

/// What becomes of a record.
enum Fate {
    Arrives,
    IsLost,
    ArrivesTwice,
    /// It arrives, after that.
    Waits(Wait),
    /// It does not arrive, and this does instead.
    IsAnswered(Outcome, Wait),
}

#[derive(Clone, Copy)]
enum Wait {
    No,
    /// That takes so long.
    UntilTheDeadlineIsOver(Duration),
    UntilAllIsOver,
    For(Duration),
}

impl Network {
    pub(super) fn new(scene: &Scene, sagas: &MemoryStore) -> Self {
        let topics = MemoryTransport::new().clock(scene.clock().clone());
        Self { topics, scene: scene.clone(), sagas: sagas.clone() }
    }
}

impl Transport for Network {
    type Publisher = NetworkPublisher;
    type Subscriber = NetworkSubscriber;

    async fn ensure_topics(&self, topics: &[Topic]) -> Result<(), TransportError> {
        self.topics.ensure_topics(topics).await
    }

    async fn publisher(&self) -> Result<NetworkPublisher, TransportError> {
        let inner = Arc::new(self.topics.publisher().await?);
        Ok(NetworkPublisher { inner, scene: self.scene.clone() })
    }

    async fn subscriber(
        &self,
        subscription: Subscription,
    ) -> Result<NetworkSubscriber, TransportError> {
        let is_orchestrator = subscription.group == ORCHESTRATOR;
        let inner = self.topics.subscriber(subscription).await?;
        let (scene, sagas) = (self.scene.clone(), self.sagas.clone());
        Ok(NetworkSubscriber { inner, scene, sagas, is_orchestrator, delivered: Vec::new() })
    }
}

impl Publisher for NetworkPublisher {
    async fn partitions(&self, topic: &Topic) -> Result<u32, TransportError> {
        self.inner.partitions(topic).await
    }

    fn publish(&self, records: Vec<Record>) -> Receipt {
        let mut arriving = Vec::with_capacity(records.len());
        for record in records {
            let Ok(envelope) = Envelope::decode(record.value.clone()) else {
                arriving.push(record);
                continue;
            };
            self.scene.audit(|audit| audit.published(envelope.id));
            match self.fate(&envelope) {
                Fate::Arrives => self.arrive(record, &mut arriving),
                Fate::IsLost => {}
                Fate::ArrivesTwice => arriving.extend([record.clone(), record]),
                Fate::Waits(wait) => self.later(record, wait),
                Fate::IsAnswered(outcome, wait) => {
                    self.later(answer(&envelope, &record, outcome), wait);
                }
            }
        }
        if arriving.is_empty() {
            return Receipt::settled(Ok(()));
        }
        self.inner.publish(arriving)
    }
}

impl Subscriber for NetworkSubscriber {
    async fn receive(&mut self, limit: usize) -> Result<Received, TransportError> {
        let received = self.inner.receive(limit).await?;
        if let Received::Deliveries(deliveries) = &received {
            self.delivered.extend(deliveries.iter().filter_map(|delivery| {
                let envelope = Envelope::decode(delivery.value.clone()).ok()?;
                Some((delivery.position.clone(), envelope))
            }));
        }
        Ok(received)
    }

    fn acknowledge(&mut self, positions: &[Position]) {
        let acknowledged = self.delivered.extract_if(.., |(at, _)| positions.contains(at));
        for (_, envelope) in acknowledged {
            match &envelope.kind {
                Kind::Command(_) => self.scene.audit(|audit| audit.acknowledged(envelope.id)),
                Kind::Reply(reply) if self.is_orchestrator => {
                    let saga = self.sagas.load(&[reply.saga]).now_or_never();
                    let saga = saga.expect("it is in memory").expect("it is in memory");
                    let is_awaited = saga.iter().any(|saga| self.scene.awaits(saga, &envelope));
                    self.scene.audit(|audit| audit.reply_acknowledged(is_awaited));
                }
                Kind::Reply(_) | Kind::Fact => {}
            }
        }
        self.inner.acknowledge(positions);
    }

    async fn close(self) -> Result<(), TransportError> {
        self.inner.close().await
    }
}

impl NetworkPublisher {
    fn fate(&self, envelope: &Envelope) -> Fate {
        match &envelope.kind {
            Kind::Fact => Fate::Arrives,
            Kind::Command(headers) => {
                let trouble = self.scene.sending(envelope, headers);
                let (side, step, attempt) =
                    (self.scene.side(headers), &headers.step, headers.attempt);
                self.scene.tell(format_args!("{side} of `{step}` sent, attempt {attempt}"));
                let late = Wait::UntilTheDeadlineIsOver(self.scene.after_the_deadline(step, side));
                let is_first = attempt == 1;
                trouble.map_or(Fate::Arrives, |trouble| of_command(trouble, is_first, late))
            }
            Kind::Reply(headers) => {
                let trouble = self.scene.answering(envelope.causation, &headers.outcome);
                let (step, outcome) = (&headers.step, &headers.outcome);
                self.scene.tell(format_args!("reply of `{step}` sent: {outcome:?}"));
                match trouble {
                    Some(TroubleKind::SlowSuccess) => {
                        let side = self.scene.side_of(envelope.causation);
                        let late = self.scene.after_the_deadline(step, side);
                        Fate::Waits(Wait::UntilTheDeadlineIsOver(late))
                    }
                    Some(TroubleKind::LateSuccess) => Fate::Waits(Wait::UntilAllIsOver),
                    _ => Fate::Arrives,
                }
            }
        }
    }

    /// Lets a record arrive now, or some time later, or both.
    fn arrive(&self, record: Record, arriving: &mut Vec<Record>) {
        let [delay, copy] = self.scene.noise();
        if let Some(delay) = copy {
            self.later(record.clone(), Wait::For(delay));
        }
        match delay {
            Some(delay) => self.later(record, Wait::For(delay)),
            None => arriving.push(record),
        }
    }

    /// Publishes a record when its time has come. It is on the way, so no crash takes it back.
    fn later(&self, record: Record, wait: Wait) {
        let (inner, scene) = (Arc::clone(&self.inner), self.scene.clone());
        tokio::spawn(async move {
            match wait {
                Wait::No => {}
                Wait::UntilTheDeadlineIsOver(late) => tokio::time::sleep(late).await,
                Wait::UntilAllIsOver => scene.is_over().await,
                Wait::For(delay) => tokio::time::sleep(delay).await,
            }
            if !matches!(wait, Wait::No | Wait::For(_)) {
                scene.tell("what was held back arrives");
                scene.count(|seen| seen.late_replies += 1);
            }
            let _ = inner.publish(vec![record]).await;
        });
    }
}

fn of_command(trouble: TroubleKind, is_first: bool, late: Wait) -> Fate {
    let rejected = || Outcome::Rejected("refused".to_owned());
    let failed = || Outcome::FailedTransiently("not now".to_owned());
    match trouble {
        TroubleKind::Rejected => Fate::IsAnswered(rejected(), Wait::No),
        TroubleKind::FailsOnce if is_first => Fate::IsAnswered(failed(), Wait::No),
        TroubleKind::Fails => Fate::IsAnswered(failed(), Wait::No),
        TroubleKind::FailsForGood => {
            Fate::IsAnswered(Outcome::FailedPermanently("broken".to_owned()), Wait::No)
        }
        TroubleKind::LostOnce if is_first => Fate::IsLost,
        TroubleKind::Lost => Fate::IsLost,
        TroubleKind::SlowRejection => Fate::IsAnswered(rejected(), late),
        TroubleKind::LateRejection => Fate::IsAnswered(rejected(), Wait::UntilAllIsOver),
        TroubleKind::Late => Fate::Waits(Wait::UntilAllIsOver),
        TroubleKind::Twice => Fate::ArrivesTwice,
        TroubleKind::FailsOnce
        | TroubleKind::LostOnce
        | TroubleKind::SlowSuccess
        | TroubleKind::LateSuccess => Fate::Arrives,
    }
}

/// Makes the reply that a participant would have sent.
fn answer(command: &Envelope, record: &Record, outcome: Outcome) -> Record {
    let Kind::Command(headers) = &command.kind else { unreachable!("only commands are answered") };
    let participant = record.topic.as_str().trim_end_matches(".commands");
    let source = ParticipantName::parse(participant).expect("the topic was made of a name");
    let reply = ReplyHeaders {
        saga: headers.saga,
        step: headers.step.clone(),
        attempt: headers.attempt,
        outcome,
    };
    let topic = source.events();
    let envelope = Envelope {
        id: MessageId::now(),
        source,
        causation: Some(command.id),
        kind: Kind::Reply(reply),
        payload: Payload::default(),
        ..command.clone()
    };
    Record { topic, partition: headers.reply_partition, value: envelope.encode(), ..record.clone() }
}
