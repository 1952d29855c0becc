//! The laws of [`Inbox`].
//!
//! Each law is a function that takes a fresh [`Fixture`] and panics with what is broken.
//! [`inbox_conformance!`](crate::inbox_conformance) makes a test of each.

use std::sync::Arc;

use bytes::Bytes;
use saga_core::participant::{Handled, InboxRecord};
use saga_core::{Inbox, MessageId, StoreError};

use crate::Fixture;
use crate::given::{assert_conflict, begin_with_effect, dead_letter, lane, row, unsent};
use crate::run::race;

/// Hands the names of all laws of an inbox to another macro, after what is in the brackets.
#[doc(hidden)]
#[macro_export]
macro_rules! __inbox_laws {
    ($then:ident [$($given:tt)*]) => {
        $crate::$then! {
            [$($given)*]
            a_record_is_found_again
            unknown_commands_are_left_out
            an_effect_and_its_record_commit_together
            a_dropped_transaction_leaves_no_record
            a_second_record_of_a_command_is_a_conflict
            concurrent_handlers_of_one_command_have_one_winner
            replies_wait_in_the_outbox
            a_dead_letter_is_kept_once
            attempts_are_counted_until_they_end
            a_recorded_command_has_no_attempts
        }
    };
}

/// The names of all laws in this module.
pub const LAWS: &[&str] = crate::__inbox_laws!(__names []);

/// Makes a `#[test]` of each law of an inbox, each on what `fixture().await` gives.
///
/// `fixture` is the path of an async function without arguments that returns a fresh
/// [`Fixture`](crate::Fixture) whose store is an [`Inbox`](saga_core::Inbox). The crate page has an
/// example.
#[macro_export]
macro_rules! inbox_conformance {
    ($fixture:path) => {
        $crate::__inbox_laws! { __tests [inbox, $fixture] }
    };
}

/// A recorded answer is found again byte for byte, also an empty one, in every later transaction.
pub async fn a_record_is_found_again<F: Fixture<Store: Inbox>>(fixture: F) {
    let store = fixture.store();
    let mut records = vec![
        answer(MessageId::now(), b"\x00\xffreserved"),
        answer(MessageId::now(), b""),
        answer(MessageId::now(), &[0xa5; 10_000]),
    ];
    record(store, handled(records.clone())).await.expect("a first record must commit");
    for round in 1..=2 {
        let commands: Vec<_> = records.iter().map(|record| record.command).collect();
        let mut found = recorded(store, &commands).await;
        found.sort_by_key(|record| record.command);
        records.sort_by_key(|record| record.command);
        assert_eq!(found, records, "records must be found as they were made, look {round}");
    }
}

/// Only what was recorded is found.
pub async fn unknown_commands_are_left_out<F: Fixture<Store: Inbox>>(fixture: F) {
    let store = fixture.store();
    let unknown = MessageId::now();
    assert_eq!(recorded(store, &[unknown]).await, [], "nothing was recorded yet");
    let known = answer(MessageId::now(), b"known");
    record(store, handled(vec![known.clone()])).await.expect("a first record must commit");
    let found = recorded(store, &[unknown, known.command]).await;
    assert_eq!(found, [known], "one of the two commands was recorded");
    assert_eq!(recorded(store, &[]).await, [], "nothing was asked for");
}

/// What a handler wrote and the record of it are there together.
pub async fn an_effect_and_its_record_commit_together<F: Fixture<Store: Inbox>>(fixture: F) {
    let store = fixture.store();
    let reserved = answer(MessageId::now(), b"reserved");
    let transaction = begin_with_effect(&fixture, "reserve").await;
    let result = store.record(transaction, handled(vec![reserved.clone()])).await;
    result.expect("a first record must commit");
    assert_eq!(fixture.effects().await, ["reserve"], "the effect must be there, once");
    assert_eq!(recorded(store, &[reserved.command]).await, [reserved], "and its record");
}

/// A transaction that is dropped leaves neither effect nor record, and is in nobody's way.
pub async fn a_dropped_transaction_leaves_no_record<F: Fixture<Store: Inbox>>(fixture: F) {
    let store = fixture.store();
    let reserved = answer(MessageId::now(), b"reserved");
    let mut transaction = begin_with_effect(&fixture, "reserve").await;
    let found = store.recorded(&mut transaction, &[reserved.command]).await.expect("recorded");
    assert_eq!(found.records, [], "nothing was recorded yet");
    drop(transaction);
    assert_eq!(
        recorded(store, &[reserved.command]).await,
        [],
        "a dropped transaction records nothing"
    );
    let effects = fixture.effects().await;
    assert!(effects.is_empty(), "the effects of a dropped transaction must be undone: {effects:?}");
    record(store, handled(vec![reserved])).await.expect("the command can be handled again");
}

/// A command that was recorded meanwhile is a conflict, and nothing of the later transaction is written.
pub async fn a_second_record_of_a_command_is_a_conflict<F: Fixture<Store: Inbox>>(fixture: F) {
    let store = fixture.store();
    let (lane, first) = (lane(0), answer(MessageId::now(), b"first"));
    let earlier = row(&lane, "earlier");
    let once = Handled { outbox: vec![earlier.clone()], ..handled(vec![first.clone()]) };
    record(store, once).await.expect("a first record must commit");

    let (other, again) = (answer(MessageId::now(), b"other"), answer(first.command, b"second"));
    let transaction = begin_with_effect(&fixture, "second").await;
    let twice = Handled {
        outbox: vec![row(&lane, "second")],
        sent: vec![earlier.id],
        dead_letters: vec![dead_letter(1)],
        ..handled(vec![other.clone(), again])
    };
    assert_conflict(&store.record(transaction, twice).await, "a second record of a command");

    let effects = fixture.effects().await;
    assert!(effects.is_empty(), "a conflict must undo the effects: {effects:?}");
    let found = recorded(store, &[first.command, other.command]).await;
    assert_eq!(found, [first], "a conflict must leave the first record, and record nothing else");
    assert_eq!(unsent(store, &lane).await, [earlier], "a conflict must leave the outbox alone");
    let letters = fixture.dead_letters().await;
    assert!(letters.is_empty(), "a conflict must set nothing aside: {letters:?}");
}

/// Of many handlers that carry out one command at the same time, one has its effect.
pub async fn concurrent_handlers_of_one_command_have_one_winner<F: Fixture<Store: Inbox>>(
    fixture: F,
) {
    let fixture = Arc::new(fixture);
    for round in 1..=5 {
        let command = MessageId::now();
        let handlers = (0..8).map(|n| handle_once(Arc::clone(&fixture), command, format!("{n}")));
        let replies: Vec<_> = race(handlers.collect()).await.into_iter().flatten().collect();
        assert_eq!(replies.len(), 1, "one of the handlers must win: {replies:?} did");
        let found = recorded(fixture.store(), &[command]).await;
        assert_eq!(found, [answer(command, replies[0].as_bytes())], "the winner's record stays");
        let effects = fixture.effects().await;
        assert_eq!(effects.len(), round, "each command must have one effect: {effects:?}");
        assert!(effects.contains(&replies[0]), "the effect must be the winner's: {effects:?}");
    }
}

/// Handles a command unless it was handled, and returns the reply if this was the one to do it.
async fn handle_once<F: Fixture<Store: Inbox>>(
    fixture: Arc<F>,
    command: MessageId,
    handler: String,
) -> Option<String> {
    let store = fixture.store();
    let reply = format!("{command} by {handler}");
    let mut transaction = begin_with_effect(&*fixture, &reply).await;
    let found = store.recorded(&mut transaction, &[command]).await.expect("recorded");
    if !found.records.is_empty() {
        return None;
    }
    match store.record(transaction, handled(vec![answer(command, reply.as_bytes())])).await {
        Ok(()) => Some(reply),
        Err(StoreError::Conflict) => None,
        Err(error) => panic!("a handler that comes second must see a conflict: {error:?}"),
    }
}

/// The outbox rows of a commit are there with its records, and those that were sent are gone.
pub async fn replies_wait_in_the_outbox<F: Fixture<Store: Inbox>>(fixture: F) {
    let (store, lane) = (fixture.store(), lane(0));
    let (first, second) = (row(&lane, "first"), row(&lane, "second"));
    let outbox = vec![first.clone(), second.clone()];
    let answered = handled(vec![answer(MessageId::now(), b"answered")]);
    record(store, Handled { outbox, ..answered }).await.expect("a first record must commit");
    assert_eq!(unsent(store, &lane).await, [first.clone(), second.clone()], "both replies wait");

    let third = row(&lane, "third");
    let later = Handled { outbox: vec![third.clone()], sent: vec![first.id], ..Handled::default() };
    record(store, later).await.expect("a change of the outbox alone must commit");
    assert_eq!(unsent(store, &lane).await, [second, third], "the reply that was sent must be gone");
}

/// A message that is set aside twice, because a crash delivered it again, is kept once, byte for byte.
pub async fn a_dead_letter_is_kept_once<F: Fixture<Store: Inbox>>(fixture: F) {
    let store = fixture.store();
    let (letter, other) = (dead_letter(7), dead_letter(8));
    let letters = vec![letter.clone(), other.clone()];
    let once = Handled { dead_letters: letters, ..Handled::default() };
    record(store, once).await.expect("dead letters must commit");
    let redelivered = answer(MessageId::now(), b"beside it");
    let again =
        Handled { dead_letters: vec![dead_letter(7)], ..handled(vec![redelivered.clone()]) };
    record(store, again).await.expect("setting the same message aside again is no conflict");

    let mut kept = fixture.dead_letters().await;
    kept.sort_by_key(|letter| letter.offset);
    assert_eq!(kept, [letter, other], "each message must be kept once, as it was set aside first");
    let found = recorded(store, &[redelivered.command]).await;
    assert_eq!(found, [redelivered], "what was done beside it must be recorded");
}

/// Attempts add up until they end, each command's by itself.
pub async fn attempts_are_counted_until_they_end<F: Fixture<Store: Inbox>>(fixture: F) {
    let store = fixture.store();
    let (first, second) = (MessageId::now(), MessageId::now());
    assert_eq!(unfinished(store, &[first, second]).await, [], "nothing was begun");
    assert_eq!(begin(store, &[first, second, first]).await, [first, second], "each once");
    assert_eq!(begin(store, &[second]).await, [second]);
    assert_eq!(unfinished(store, &[first, second]).await, [(first, 1), (second, 2)]);
    store.end_attempts(&[second, MessageId::now()]).await.expect("end_attempts");
    assert_eq!(unfinished(store, &[first, second]).await, [(first, 1)], "the second ended");
    assert_eq!(begin(store, &[second]).await, [second]);
    assert_eq!(unfinished(store, &[second]).await, [(second, 1)], "it counts anew");
}

/// What was carried out kills nobody, and nothing is counted for it.
pub async fn a_recorded_command_has_no_attempts<F: Fixture<Store: Inbox>>(fixture: F) {
    let store = fixture.store();
    let (done, open) = (MessageId::now(), MessageId::now());
    assert_eq!(begin(store, &[done]).await, [done]);
    record(store, handled(vec![answer(done, b"done")])).await.expect("a first record must commit");
    assert_eq!(unfinished(store, &[done]).await, [], "it was carried out");
    assert_eq!(begin(store, &[done, open]).await, [open], "only one is still to be carried out");
}

async fn begin(store: &impl Inbox, commands: &[MessageId]) -> Vec<MessageId> {
    let mut begun = store.begin_attempts(commands).await.expect("begin_attempts");
    begun.sort();
    begun
}

async fn unfinished(store: &impl Inbox, commands: &[MessageId]) -> Vec<(MessageId, u32)> {
    let mut unfinished = store.unfinished(commands).await.expect("unfinished");
    unfinished.sort();
    unfinished
}

fn answer(command: MessageId, reply: &[u8]) -> InboxRecord {
    InboxRecord { command, reply: Bytes::copy_from_slice(reply) }
}

fn handled(records: Vec<InboxRecord>) -> Handled {
    Handled { records, ..Handled::default() }
}

async fn record(store: &impl Inbox, handled: Handled) -> Result<(), StoreError> {
    let transaction = store.begin().await.expect("begin");
    store.record(transaction, handled).await
}

async fn recorded(store: &impl Inbox, commands: &[MessageId]) -> Vec<InboxRecord> {
    let mut transaction = store.begin().await.expect("begin");
    store.recorded(&mut transaction, commands).await.expect("recorded").records
}
