//! Every consumer of this library, with every poison that can reach it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use saga_core::machine::HistoryKind;
use saga_core::message::{Envelope, Kind, Outcome};
use saga_core::store::{SagaStore, Transactional};
use saga_core::{
    Codec as _, Context, Engine, FactContext, Handle, HandleAll, HandleAllFacts, HandleExternal,
    HandleFact, HandlerError, HandlerResult, IdempotencyKey, Inbox, Json, MessageId, Participant,
    Publisher, Reply, SagaData as _, SagaId, Status, Topic, Transport,
};

use super::shop::{
    Order, OrderPlaced, Reserve, Reserved, SHOP, STOCK, WEB, command, fact, key, reply, saga,
};
use super::watch::{Reader, assert_set_aside, deliver, partitions, until};
use super::{Dose, Flaw, Poison, all};
use crate::Fixture;

/// One that must be set aside: the name of the poison, its bytes, and the reason.
type Letter = (String, Dose, &'static str);

/// What must be set aside.
pub(super) type SetAside = Vec<Letter>;

type Connection<F> = <<F as Fixture>::Store as Transactional>::Connection;

/// Writes the order of each command or fact as an effect.
struct Stock<F>(Arc<F>);

impl<F: Fixture> Handle<Reserve, Connection<F>> for Stock<F> {
    async fn handle(
        &self,
        Reserve { order }: Reserve,
        cx: &mut Context<'_, Connection<F>>,
    ) -> HandlerResult<Reserved> {
        self.0.write_effect(cx.connection(), &order).await;
        Ok(Reply::succeeded(Reserved { order }))
    }
}

impl<F: Fixture> HandleAll<Reserve, Connection<F>> for Stock<F> {
    async fn handle_all(
        &self,
        commands: Vec<Reserve>,
        cx: &mut Context<'_, Connection<F>>,
    ) -> Result<Vec<Reply<Reserved>>, HandlerError> {
        let mut replies = Vec::with_capacity(commands.len());
        for Reserve { order } in commands {
            self.0.write_effect(cx.connection(), &order).await;
            replies.push(Reply::succeeded(Reserved { order }));
        }
        Ok(replies)
    }
}

impl<F: Fixture> HandleFact<OrderPlaced, Connection<F>> for Stock<F> {
    async fn handle_fact(
        &self,
        OrderPlaced { order }: OrderPlaced,
        cx: &mut FactContext<'_, Connection<F>>,
    ) -> Result<(), HandlerError> {
        self.0.write_effect(cx.connection(), &order).await;
        Ok(())
    }
}

impl<F: Fixture> HandleAllFacts<OrderPlaced, Connection<F>> for Stock<F> {
    async fn handle_all_facts(
        &self,
        facts: Vec<OrderPlaced>,
        cx: &mut FactContext<'_, Connection<F>>,
    ) -> Result<(), HandlerError> {
        for OrderPlaced { order } in facts {
            self.0.write_effect(cx.connection(), &order).await;
        }
        Ok(())
    }
}

/// Another system, which notes the calls.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<String>>>);

impl HandleExternal<Reserve> for Calls {
    async fn call(&self, Reserve { order }: Reserve, _: IdempotencyKey) -> HandlerResult<Reserved> {
        self.0.lock().expect("no caller panics here").push(order.clone());
        Ok(Reply::succeeded(Reserved { order }))
    }
}

/// A participant that takes commands one by one answers or sets aside each poison, and carries out
/// the sound command behind it once.
///
/// `hostile` is a transport to the same topics that sends what the other one would not.
pub async fn behind_poison_commands_are_carried_out<F, T>(fixture: F, transport: T, hostile: &T)
where
    F: Fixture,
    F::Store: Inbox + Clone,
    T: Transport + Clone,
{
    let fixture = Arc::new(fixture);
    let stock = Participant::builder(STOCK).handle::<Reserve>(Stock(Arc::clone(&fixture)));
    let stock = stock.build().expect("the kit's participant is sound");
    participant(&fixture, &transport, hostile, stock).await;
    assert_once(&fixture.effects().await);
}

/// As [`behind_poison_commands_are_carried_out`], of a participant that takes commands together.
pub async fn behind_poison_commands_are_carried_out_together<F, T>(
    fixture: F,
    transport: T,
    hostile: &T,
) where
    F: Fixture,
    F::Store: Inbox + Clone,
    T: Transport + Clone,
{
    let fixture = Arc::new(fixture);
    let stock = Participant::builder(STOCK).handle_all::<Reserve>(Stock(Arc::clone(&fixture)));
    let stock = stock.build().expect("the kit's participant is sound");
    participant(&fixture, &transport, hostile, stock).await;
    assert_once(&fixture.effects().await);
}

/// As [`behind_poison_commands_are_carried_out`], of a participant that calls another system.
pub async fn behind_poison_external_calls_are_made<F, T>(fixture: F, transport: T, hostile: &T)
where
    F: Fixture,
    F::Store: Inbox + Clone,
    T: Transport + Clone,
{
    let fixture = Arc::new(fixture);
    let calls = Calls::default();
    let stock = Participant::builder(STOCK).handle_external::<Reserve>(calls.clone());
    let stock = stock.build().expect("the kit's participant is sound");
    participant(&fixture, &transport, hostile, stock).await;
    assert_once(&calls.0.lock().expect("no caller panics here"));
}

/// Returns the order of the sound message behind a poison.
fn behind(poison: &Poison) -> String {
    format!("behind {}", poison.name())
}

fn assert_once(effects: &[String]) {
    for poison in for_sort_of(&command("")) {
        let order = behind(&poison);
        let count = effects.iter().filter(|&effect| *effect == order).count();
        assert_eq!(count, 1, "the sound command {order} must take effect once");
    }
}

fn for_sort_of(sound: &Envelope) -> Vec<Poison> {
    all().into_iter().filter(|poison| poison.is_for(sound)).collect()
}

async fn participant<F, T>(
    fixture: &Arc<F>,
    transport: &T,
    hostile: &T,
    stock: Participant<Connection<F>>,
) where
    F: Fixture,
    F::Store: Inbox + Clone,
    T: Transport + Clone,
{
    let topic = STOCK.commands();
    let topics = [topic.clone(), STOCK.events(), topic.dead_letters()];
    transport.ensure_topics(&topics).await.expect("topics can be created");
    let size = partitions(hostile, &topic).await;
    let mut answers = HashMap::new();
    let mut set_aside = SetAside::new();
    let publisher = hostile.publisher().await.expect("a publisher can be made");
    for (poison, partition) in for_sort_of(&command("")).iter().zip((0..size).cycle()) {
        let dose = poison.dose(&command(poison.name()));
        match poison.flaw() {
            Flaw::Undecodable => set_aside.push(expected(poison, &dose, "undecodable")),
            Flaw::Misplaced => set_aside.push(expected(poison, &dose, "not-a-command")),
            flaw => {
                answers.insert(id(poison, &dose), (poison.name().to_owned(), flaw));
            }
        }
        let sound = command(&behind(poison));
        answers.insert(sound.id, (behind(poison), Flaw::Strange));
        let records =
            vec![dose.record(topic.clone(), partition), deliver(&sound, &topic, partition)];
        publisher.publish(records).await.expect("the hostile transport takes everything");
    }

    let running = stock.start(fixture.store().clone(), transport.clone());
    let mut reader = Reader::join(transport, STOCK.events()).await;
    while !answers.is_empty() {
        let what = || format!("answers to {:?}", answers.values());
        for delivery in reader.receive(what).await {
            let reply = Envelope::decode(delivery.value).expect("a participant sends envelopes");
            let Kind::Reply(headers) = reply.kind else { panic!("only replies are expected") };
            let command = reply.causation.expect("a reply names its command");
            // An answer may come twice.
            if let Some((name, flaw)) = answers.remove(&command) {
                assert_answer(&name, flaw, &headers.outcome);
            }
        }
    }
    assert_set_aside(&**fixture, transport, &topic, set_aside).await;
    running.shutdown().await.expect("poison must not end a participant");
}

fn expected(poison: &Poison, dose: &Dose, reason: &'static str) -> Letter {
    (poison.name().to_owned(), dose.clone(), reason)
}

fn id(poison: &Poison, dose: &Dose) -> MessageId {
    let read = Envelope::decode(dose.value.clone());
    read.unwrap_or_else(|error| panic!("{} must be readable: {error}", poison.name())).id
}

fn assert_answer(name: &str, flaw: Flaw, outcome: &Outcome) {
    let is_right = match flaw {
        Flaw::Strange => *outcome == Outcome::Succeeded,
        Flaw::UnknownType | Flaw::Payload => matches!(outcome, Outcome::FailedPermanently(_)),
        Flaw::Text | Flaw::Stray => true,
        Flaw::Undecodable | Flaw::Misplaced => false,
    };
    assert!(is_right, "{name} ({flaw:?}) was answered {outcome:?}");
}

/// An engine takes, ignores or sets aside each poison among the replies, and the sound reply behind
/// it ends its saga.
///
/// `hostile` is a transport to the same topics that sends what the other one would not.
pub async fn behind_poison_replies_are_taken<F, T>(fixture: F, transport: T, hostile: &T)
where
    F: Fixture,
    F::Store: SagaStore + Clone,
    T: Transport + Clone,
{
    let topic = STOCK.events();
    let topics = [topic.clone(), STOCK.commands(), topic.dead_letters()];
    transport.ensure_topics(&topics).await.expect("topics can be created");
    let size = partitions(hostile, &topic).await;
    let engine = Engine::builder(SHOP, fixture.store().clone()).saga(saga());
    let engine = engine.transport(transport.clone()).start().expect("the parts fit");
    let sort = reply(&command(""), "");
    let mut sagas = Vec::new();
    for poison in for_sort_of(&sort) {
        let order = Order { order: poison.name().to_owned() };
        let started = engine.start(key(poison.name()), order).await.expect("accepted");
        sagas.push((started.saga(), poison));
    }
    let commands = asked(&transport, sagas.len()).await;

    let mut set_aside = SetAside::new();
    let publisher = hostile.publisher().await.expect("a publisher can be made");
    for (index, (saga, poison)) in sagas.iter().enumerate() {
        let partition = u32::try_from(index).expect("some hundreds") % size;
        let (own, other) = (&commands[saga], &commands[&sagas[(index + 1) % sagas.len()].0]);
        let dose = poison.dose(&reply(own, poison.name()));
        match poison.flaw() {
            Flaw::Undecodable => set_aside.push(expected(poison, &dose, "undecodable")),
            Flaw::Misplaced => set_aside.push(expected(poison, &dose, "unexpected-command")),
            Flaw::UnknownType | Flaw::Payload | Flaw::Text | Flaw::Stray | Flaw::Strange => {}
        }
        // Forged: it answers the command of another saga, and must end neither of the two.
        let forged = Envelope { causation: Some(other.id), ..reply(own, poison.name()) };
        let records = vec![
            deliver(&forged, &topic, partition),
            dose.record(topic.clone(), partition),
            deliver(&reply(own, poison.name()), &topic, partition),
        ];
        publisher.publish(records).await.expect("the hostile transport takes everything");
    }

    for (saga, poison) in &sagas {
        let completed = async || {
            let view = engine.inspect(*saga).await.expect("poison must not end an engine");
            view.is_some_and(|view| view.status() == Status::Completed)
        };
        until(&format!("the saga of {} completes", poison.name()), completed).await;
        let history = engine.history(*saga).await.expect("history");
        let was_parked = history.iter().any(|entry| entry.kind == HistoryKind::Parked);
        assert_eq!(was_parked, poison.flaw() == Flaw::Payload, "{}: {history:#?}", poison.name());
    }
    assert_set_aside(&fixture, &transport, &topic, set_aside).await;
    engine.shutdown().await.expect("an orderly end");
}

/// Returns the first command of each saga.
async fn asked<T: Transport>(transport: &T, count: usize) -> HashMap<SagaId, Envelope> {
    let mut reader = Reader::join(transport, STOCK.commands()).await;
    let mut commands = HashMap::new();
    while commands.len() < count {
        let what = || format!("{count} commands; so far {}", commands.len());
        for delivery in reader.receive(what).await {
            let envelope = Envelope::decode(delivery.value).expect("an engine sends envelopes");
            let Kind::Command(headers) = &envelope.kind else { panic!("an engine asks") };
            commands.insert(headers.saga, envelope.clone());
        }
    }
    commands
}

/// An engine takes, ignores or sets aside each poison among the facts, and the sound fact behind
/// it starts a saga.
///
/// `hostile` is a transport to the same topics that sends what the other one would not.
pub async fn behind_poison_facts_start_sagas<F, T>(fixture: F, transport: T, hostile: &T)
where
    F: Fixture,
    F::Store: SagaStore + Clone,
    T: Transport + Clone,
{
    let topic = WEB.events();
    let SentFacts { set_aside, handled, .. } =
        send_facts(&transport, hostile, &topic, "undecodable-fact").await;

    let engine = Engine::builder(SHOP, fixture.store().clone()).saga(saga());
    let engine = engine.transport(transport.clone()).start_on::<OrderPlaced, Order>(|fact| {
        let key = IdempotencyKey::new(&*fact.order).ok()?;
        Some((key, Order { order: fact.order }))
    });
    let engine = engine.start().expect("the parts fit");
    for order in &handled {
        let started = async || {
            let found = engine.find(Order::SAGA, key(order)).await;
            found.expect("poison must not end an engine").is_some()
        };
        until(&format!("a saga starts from the fact {order}"), started).await;
    }
    assert_set_aside(&fixture, &transport, &topic, set_aside).await;
    engine.shutdown().await.expect("an orderly end");
}

/// A participant that takes facts one by one handles, ignores or sets aside each poison among them,
/// and handles the sound fact behind it once.
///
/// `hostile` is a transport to the same topics that sends what the other one would not.
pub async fn behind_poison_facts_are_handled<F, T>(fixture: F, transport: T, hostile: &T)
where
    F: Fixture,
    F::Store: Inbox + Clone,
    T: Transport + Clone,
{
    let fixture = Arc::new(fixture);
    let stock = Participant::builder(STOCK).handle_fact::<OrderPlaced>(Stock(Arc::clone(&fixture)));
    let stock = stock.build().expect("the kit's participant is sound");
    participant_of_facts(&fixture, &transport, hostile, stock).await;
}

/// As [`behind_poison_facts_are_handled`], of a participant that takes facts together.
pub async fn behind_poison_facts_are_handled_together<F, T>(fixture: F, transport: T, hostile: &T)
where
    F: Fixture,
    F::Store: Inbox + Clone,
    T: Transport + Clone,
{
    let fixture = Arc::new(fixture);
    let stock = Participant::builder(STOCK);
    let stock = stock.handle_all_facts::<OrderPlaced>(Stock(Arc::clone(&fixture)));
    let stock = stock.build().expect("the kit's participant is sound");
    participant_of_facts(&fixture, &transport, hostile, stock).await;
}

async fn participant_of_facts<F, T>(
    fixture: &Arc<F>,
    transport: &T,
    hostile: &T,
    stock: Participant<Connection<F>>,
) where
    F: Fixture,
    F::Store: Inbox + Clone,
    T: Transport + Clone,
{
    let topic = WEB.events();
    let SentFacts { mut set_aside, mut handled, texts } =
        send_facts(transport, hostile, &topic, "unhandled-fact").await;

    let running = stock.start(fixture.store().clone(), transport.clone());
    for order in &handled {
        let is_handled = async || fixture.effects().await.contains(order);
        until(&format!("the fact {order} is handled"), is_handled).await;
    }
    // A partition is handled in order, so what stands before its last fact has come to rest.
    let effects = fixture.effects().await;
    for (order, letter) in texts {
        match effects.contains(&order) {
            true => handled.push(order),
            false => set_aside.push(letter),
        }
    }
    assert_set_aside(&**fixture, transport, &topic, set_aside).await;
    running.shutdown().await.expect("poison must not end a participant");

    let mut effects = fixture.effects().await;
    effects.sort();
    handled.sort();
    assert_eq!(effects, handled, "each must be handled once, and nothing else");
}

/// Facts that were sent, by what becomes of them.
struct SentFacts {
    set_aside: SetAside,
    /// The orders of those that are handled.
    handled: Vec<String>,
    /// The orders of those that are handled, or set aside if the handler's database refuses the text.
    texts: Vec<(String, Letter)>,
}

/// Sends each poison among the facts, and a sound fact of another key behind it.
///
/// One whose payload cannot be handled is set aside as `unhandled`.
async fn send_facts<T: Transport>(
    transport: &T,
    hostile: &T,
    topic: &Topic,
    unhandled: &'static str,
) -> SentFacts {
    let topics = [topic.clone(), topic.dead_letters()];
    transport.ensure_topics(&topics).await.expect("topics can be created");
    let size = partitions(hostile, topic).await;
    let (mut set_aside, mut handled, mut texts) = (SetAside::new(), Vec::new(), Vec::new());
    let publisher = hostile.publisher().await.expect("a publisher can be made");
    for (poison, partition) in for_sort_of(&fact("")).iter().zip((0..size).cycle()) {
        let dose = poison.dose(&fact(poison.name()));
        match poison.flaw() {
            Flaw::Undecodable => set_aside.push(expected(poison, &dose, "undecodable")),
            Flaw::Misplaced => set_aside.push(expected(poison, &dose, "unexpected-command")),
            Flaw::Payload => set_aside.push(expected(poison, &dose, unhandled)),
            Flaw::Text => texts.push((order_in(&dose), expected(poison, &dose, unhandled))),
            Flaw::Strange => handled.push(poison.name().to_owned()),
            Flaw::UnknownType | Flaw::Stray => {}
        }
        let order = behind(poison);
        let sound = deliver(&fact(&order), topic, partition);
        handled.push(order);
        let records = vec![dose.record(topic.clone(), partition), sound];
        publisher.publish(records).await.expect("the hostile transport takes everything");
    }
    SentFacts { set_aside, handled, texts }
}

/// Returns the order in a fact that can be decoded.
fn order_in(dose: &Dose) -> String {
    let read = Envelope::decode(dose.value.clone()).expect("its envelope is sound");
    let fact: OrderPlaced = Json::decode(read.payload.as_bytes()).expect("its payload is sound");
    fact.order
}
