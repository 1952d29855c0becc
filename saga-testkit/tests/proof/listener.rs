//! A shop with a participant that only listens: what was done is a fact to it.

use saga_core::{
    Command as _, Fact, FactContext, HandleFact, HandlerError, MemoryConnection, MemoryStore,
    Participant, ParticipantName, Saga, Status,
};
#[cfg(feature = "planted-defects")]
use saga_testkit::{Defect, see};
use saga_testkit::{SimulatedClock, Subject, simulate};

use crate::shop::{Accounts, Done, Order, Reserve, Shop};

impl Fact for Done {
    const SOURCE: ParticipantName = Reserve::PARTICIPANT;
}

/// Counts what the stock has done.
struct Summary;

impl HandleFact<Done, MemoryConnection<Accounts>> for Summary {
    async fn handle_fact(
        &self,
        _: Done,
        cx: &mut FactContext<'_, MemoryConnection<Accounts>>,
    ) -> Result<(), HandlerError> {
        cx.connection().told += 1;
        Ok(())
    }
}

struct Listened;

impl Subject for Listened {
    type Data = Order;
    type Store = MemoryStore<Accounts>;

    fn saga(&self) -> Saga<Order> {
        Shop.saga()
    }

    fn data(&self) -> Order {
        Shop.data()
    }

    fn store(&self, clock: &SimulatedClock) -> MemoryStore<Accounts> {
        Shop.store(clock)
    }

    fn participants(&self) -> Vec<Participant<MemoryConnection<Accounts>>> {
        let summary = Participant::builder(ParticipantName::new("summary"));
        let summary = summary.handle_fact::<Done>(Summary).build().expect("the handler is sound");
        let mut all = Shop.participants();
        all.push(summary);
        all
    }

    fn check(&self, store: &MemoryStore<Accounts>, status: Status) -> Result<(), String> {
        let told = store.read(|accounts| accounts.told);
        match (status, told) {
            // Reserved, and then released or shipped; or never even reserved.
            (_, 2) | (Status::Compensated, 0) => Shop.check(store, status),
            _ => Err(format!("of {told} acts was heard when it was {status}")),
        }
    }
}

/// F01, F03, I4, I5: what was done is heard of, and once, and listening changes nothing.
#[test]
fn a_participant_that_takes_replies_as_facts_hears_of_each_once() {
    let report = simulate(&Listened, 0..2_000);
    println!("{report}");
    assert_eq!(report.unseen(), [""; 0], "what was never seen is not proved");
}

/// I4: a proof sees what is heard of twice.
#[cfg(feature = "planted-defects")]
#[test]
fn what_is_heard_of_twice_is_seen() {
    let mut flaws = see(&Listened, Defect::NoInbox, 0..2_000);
    assert!(flaws.any(|flaw| flaw == "of 3 acts was heard when it was completed"));
}
