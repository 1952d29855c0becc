//! A transport in memory that loses, doubles, holds back and answers what the scene says.

use std::sync::Arc;
use std::time::Duration;

use saga_core::message::{Envelope, Kind, Outcome, ReplyHeaders};
use saga_core::transport::{
    MemoryPublisher, MemorySubscriber, MemoryTransport, Position, Receipt, Received, Record,
    Subscription,
};
use saga_core::{
    MessageId, ParticipantName, Payload, Publisher, Subscriber, Topic, Transport, TransportError,
};

use super::scene::Scene;
use super::trouble::TroubleKind;

/// Longer than the deadline of a step, unless its author has set one that is longer.
const AFTER_THE_DEADLINE: Duration = Duration::from_secs(45);

/// The way between an orchestrator and its participants.
#[derive(Debug, Clone)]
pub(super) struct Network {
    topics: MemoryTransport,
    scene: Scene,
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
    /// Those that are delivered and not acknowledged.
    commands: Vec<(Position, MessageId)>,
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
    UntilTheDeadlineIsOver,
    UntilAllIsOver,
    For(Duration),
}

impl Network {
    pub(super) fn new(scene: &Scene) -> Self {
        let topics = MemoryTransport::new().clock(scene.clock().clone());
        Self { topics, scene: scene.clone() }
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
        let inner = self.topics.subscriber(subscription).await?;
        Ok(NetworkSubscriber { inner, scene: self.scene.clone(), commands: Vec::new() })
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
            self.commands.extend(deliveries.iter().filter_map(|delivery| {
                let envelope = Envelope::decode(delivery.value.clone()).ok()?;
                let is_command = matches!(envelope.kind, Kind::Command(_));
                is_command.then(|| (delivery.position.clone(), envelope.id))
            }));
        }
        Ok(received)
    }

    fn acknowledge(&mut self, positions: &[Position]) {
        let acknowledged = self.commands.extract_if(.., |(at, _)| positions.contains(at));
        acknowledged.for_each(|(_, id)| self.scene.audit(|audit| audit.acknowledged(id)));
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
                let is_first = headers.attempt == 1;
                trouble.map_or(Fate::Arrives, |trouble| of_command(trouble, is_first))
            }
            Kind::Reply(headers) => {
                let trouble = self.scene.answering(envelope.causation, &headers.outcome);
                let (step, outcome) = (&headers.step, &headers.outcome);
                self.scene.tell(format_args!("reply of `{step}` sent: {outcome:?}"));
                match trouble {
                    Some(TroubleKind::SlowSuccess) => Fate::Waits(Wait::UntilTheDeadlineIsOver),
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
                Wait::UntilTheDeadlineIsOver => tokio::time::sleep(AFTER_THE_DEADLINE).await,
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

fn of_command(trouble: TroubleKind, is_first: bool) -> Fate {
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
        TroubleKind::SlowRejection => Fate::IsAnswered(rejected(), Wait::UntilTheDeadlineIsOver),
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
