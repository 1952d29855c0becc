//! The laws of [`Redrive`] and [`DeadLetters`], for a store that is an [`Inbox`] as well.
//!
//! Each law is a function that takes a fresh [`Fixture`] and panics with what is broken.
//! [`dead_letter_conformance!`](crate::dead_letter_conformance) makes a test of each.

use std::time::Duration;

use bytes::Bytes;
use saga_core::participant::Handled;
use saga_core::store::{
    DeadLetter, DeadLetters, HeldKey, LETTER_BYTES_MAX, LetterAction, LetterFilter,
    LetterOperation, REDRIVE_TRIES, Redrive,
};
use saga_core::{Inbox, MessageId, ParticipantName, Topic};

use crate::Fixture;
use crate::given::{ALL, HOUR, ORCHESTRATOR, dead_letter};

const OTHER: ParticipantName = ParticipantName::new("inventory");
/// A letter that is handed out is due again at once.
const NO_LEASE: Duration = Duration::ZERO;

/// Hands the names of all laws of dead letters to another macro, after what is in the brackets.
#[doc(hidden)]
#[macro_export]
macro_rules! __dead_letter_laws {
    ($then:ident [$($given:tt)*]) => {
        $crate::$then! {
            [$($given)*]
            a_letter_is_handed_out_when_it_was_asked_for
            a_letter_is_handed_out_three_times_at_most
            large_letters_are_handed_out_a_few_at_a_time
            a_settled_letter_is_gone_and_one_set_aside_again_is_not
            a_letter_that_waits_comes_after_those_before_it
            a_held_key_is_told_with_its_first_letter
            letters_are_listed_in_pages
            large_letters_are_listed_a_few_at_a_time
            a_filter_leaves_the_others_out
            a_discarded_letter_is_gone
            what_was_decided_is_on_record
        }
    };
}

/// The names of all laws in this module.
pub const LAWS: &[&str] = crate::__dead_letter_laws!(__names []);

/// Makes a `#[test]` of each law of dead letters, each on what `fixture().await` gives.
///
/// `fixture` is the path of an async function without arguments that returns a fresh
/// [`Fixture`](crate::Fixture) whose store is [`DeadLetters`](saga_core::store::DeadLetters) and an
/// [`Inbox`](saga_core::Inbox). The crate page has an example.
#[macro_export]
macro_rules! dead_letter_conformance {
    ($fixture:path) => {
        $crate::__dead_letter_laws! { __tests [dead_letters, $fixture] }
    };
}

/// A letter comes to the consumer that set it aside, where it owns the partition, once it was asked for, and not within its lease.
pub async fn a_letter_is_handed_out_when_it_was_asked_for<F>(fixture: F)
where
    F: Fixture<Store: DeadLetters + Inbox>,
{
    let store = fixture.store();
    let (asked, later, unasked) = (dead_letter(1), dead_letter(2), dead_letter(3));
    let others = DeadLetter { consumer: OTHER, ..dead_letter(1) };
    let elsewhere = DeadLetter { partition: 4, ..dead_letter(1) };
    let all = [&asked, &later, &unasked, &others, &elsewhere].map(Clone::clone);
    set_aside(store, all.to_vec()).await;
    assert_eq!(redriven(store, HOUR).await, [], "nobody asked for any");

    let ids = [asked.id, others.id, elsewhere.id].map(|id| (id, Duration::ZERO));
    operate(store, LetterAction::Redrive, &ids).await;
    operate(store, LetterAction::Redrive, &[(later.id, HOUR)]).await;
    let [letter] = redriven(store, HOUR).await.try_into().expect("one is due here");
    assert!(letter.redrive_at.is_some(), "it must be told until when it is ours");
    let expected = DeadLetter { redrives: 1, redrive_at: letter.redrive_at, ..asked };
    assert_eq!(letter, expected, "it must come as it was set aside, and be counted");
    assert_eq!(redriven(store, HOUR).await, [], "it is ours for an hour");
}

/// Each time that it is asked for a letter is handed out three times at most; each is counted before it is handled.
pub async fn a_letter_is_handed_out_three_times_at_most<F>(fixture: F)
where
    F: Fixture<Store: DeadLetters + Inbox>,
{
    let (store, letter) = (fixture.store(), dead_letter(1));
    set_aside(store, vec![letter.clone()]).await;
    for round in 1..=2 {
        operate(store, LetterAction::Redrive, &[(letter.id, Duration::ZERO)]).await;
        for time in 1..=REDRIVE_TRIES {
            let redrives: Vec<_> =
                redriven(store, NO_LEASE).await.iter().map(|it| it.redrives).collect();
            let expected = (round - 1) * REDRIVE_TRIES + time;
            assert_eq!(redrives, [expected], "time {time} of round {round}");
        }
        assert_eq!(redriven(store, NO_LEASE).await, [], "who took it died three times");
        assert_eq!(letters(store).await.len(), 1, "it must stay");
    }
}

/// Letters that are too much at once are handed out bit by bit, and a single one however large it is.
pub async fn large_letters_are_handed_out_a_few_at_a_time<F>(fixture: F)
where
    F: Fixture<Store: DeadLetters + Inbox>,
{
    let (store, all) = (fixture.store(), large_letters());
    for letter in &all {
        set_aside(store, vec![letter.clone()]).await;
        operate(store, LetterAction::Redrive, &[(letter.id, Duration::ZERO)]).await;
    }
    let mut handed_out = Vec::new();
    while handed_out.len() < all.len() {
        let few = redriven(store, HOUR).await;
        assert!((1..=2).contains(&few.len()), "two are more than enough, not {}", few.len());
        handed_out.extend(few.iter().map(|letter| letter.id));
    }
    assert_eq!(handed_out, ids(&all), "each once, those first that were asked for first");
}

/// What was handled is gone. What was set aside again meanwhile stays under its id, with the new reason, until it is asked for again.
pub async fn a_settled_letter_is_gone_and_one_set_aside_again_is_not<F>(fixture: F)
where
    F: Fixture<Store: DeadLetters + Inbox>,
{
    let store = fixture.store();
    let tried = |offset, attempts| DeadLetter { attempts, ..dead_letter(offset) };
    let (handled, broken, unasked) = (tried(1, 0), tried(2, 3), tried(3, 2));
    set_aside(store, vec![handled.clone(), broken.clone(), unasked.clone()]).await;
    let both = [handled.id, broken.id];
    operate(store, LetterAction::Redrive, &both.map(|id| (id, Duration::ZERO))).await;
    assert_eq!(redriven(store, HOUR).await.len(), 2, "both were asked for");

    let again = DeadLetter { reason: "unstartable".to_owned(), ..tried(2, 1) };
    set_aside(store, vec![again]).await;
    // A commit whose end was not known.
    set_aside(store, vec![unasked.clone()]).await;
    store.settled(&[handled.id, broken.id, unasked.id]).await.expect("settled");
    let kept: Vec<_> = letters(store).await;
    let kept: Vec<_> = kept.iter().map(|it| (it.id, it.reason.as_str(), it.attempts)).collect();
    let expected = [(broken.id, "unstartable", 4), (unasked.id, "undecodable", 2)];
    assert_eq!(kept, expected, "one was handled, one failed again, one nobody asked for");
    assert_eq!(redriven(store, NO_LEASE).await, [], "it must be asked for again");
    store.settled(&[handled.id]).await.expect("what is gone already is no error");
}

/// A letter that waits comes by itself, once no letter of its key is left before it; other keys do not matter.
pub async fn a_letter_that_waits_comes_after_those_before_it<F>(fixture: F)
where
    F: Fixture<Store: DeadLetters + Inbox>,
{
    let store = fixture.store();
    let waiting = |offset| DeadLetter { waits: true, ..dead_letter(offset) };
    let (first, second, third) = (dead_letter(10), waiting(11), waiting(12));
    let other = DeadLetter { key: Bytes::from_static(b"other"), ..dead_letter(9) };
    // Not in order: what counts is the place in the partition.
    let all = vec![third.clone(), second.clone(), other.clone(), first.clone()];
    set_aside(store, all).await;
    assert_eq!(redriven(store, HOUR).await, [], "two wait behind the first");

    let keyless = |letter| DeadLetter { key: Bytes::new(), ..letter };
    let (before, free) = (keyless(dead_letter(13)), keyless(waiting(14)));
    set_aside(store, vec![before.clone(), free.clone()]).await;
    assert_eq!(ids(&redriven(store, HOUR).await), [free.id], "without a key it waits for nobody");
    let both = [before.id, free.id].map(|id| (id, Duration::ZERO));
    operate(store, LetterAction::Discard, &both).await;

    operate(store, LetterAction::Discard, &[(first.id, Duration::ZERO)]).await;
    for expected in [second, third] {
        let ids: Vec<_> = redriven(store, HOUR).await.iter().map(|it| it.id).collect();
        assert_eq!(ids, [expected.id], "the next of the key, and no other");
        assert_eq!(redriven(store, HOUR).await, [], "the others wait until it is settled");
        // It may be received once more; that changes nothing.
        let again = DeadLetter { id: MessageId::now(), ..expected.clone() };
        set_aside(store, vec![again]).await;
        store.settled(&[expected.id]).await.expect("settled");
    }
    assert_eq!(ids(&letters(store).await), [other.id], "nobody asked for the other key");
}

/// Of each key the first letter is told, by topic and partition; letters without a key hold nothing.
pub async fn a_held_key_is_told_with_its_first_letter<F>(fixture: F)
where
    F: Fixture<Store: DeadLetters + Inbox>,
{
    let store = fixture.store();
    let first = dead_letter(5);
    let topic = Topic::new("payments.events");
    let elsewhere = DeadLetter { partition: 1, ..dead_letter(2) };
    let another = DeadLetter { topic: topic.clone(), ..dead_letter(3) };
    let all = vec![
        dead_letter(6),
        first.clone(),
        elsewhere.clone(),
        another.clone(),
        DeadLetter { key: Bytes::new(), ..dead_letter(1) },
        DeadLetter { consumer: OTHER, ..dead_letter(1) },
    ];
    set_aside(store, all).await;
    let held = |letter: &DeadLetter| HeldKey {
        topic: letter.topic.clone(),
        partition: letter.partition,
        key: letter.key.clone(),
        first: letter.offset,
    };
    let mut found = store.held(&ORCHESTRATOR).await.expect("held");
    found.sort();
    assert_eq!(found, [held(&elsewhere), held(&first), held(&another)]);
}

/// Letters are listed in the order of their ids, a page at a time, each once.
pub async fn letters_are_listed_in_pages<F>(fixture: F)
where
    F: Fixture<Store: DeadLetters + Inbox>,
{
    let store = fixture.store();
    let mut expected: Vec<_> = (1..=5).map(dead_letter).collect();
    expected.sort_by_key(|letter| letter.id);
    let all = expected.iter().rev().cloned().collect();
    set_aside(store, all).await;
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = store.letters(&LetterFilter::all(), after, 2).await.expect("letters");
        assert!(page.len() <= 2, "two were asked for");
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        listed.extend(page);
    }
    assert_eq!(listed, expected, "all of them, as they were set aside");
}

/// Letters that are too much at once are listed bit by bit, and a single one however large it is.
pub async fn large_letters_are_listed_a_few_at_a_time<F>(fixture: F)
where
    F: Fixture<Store: DeadLetters + Inbox>,
{
    let (store, mut all) = (fixture.store(), large_letters());
    for letter in &all {
        set_aside(store, vec![letter.clone()]).await;
    }
    all.sort_by_key(|letter| letter.id);
    let mut listed: Vec<MessageId> = Vec::new();
    while listed.len() < all.len() {
        let after = listed.last().copied();
        let few = store.letters(&LetterFilter::all(), after, ALL).await.expect("letters");
        assert!((1..=2).contains(&few.len()), "two are more than enough, not {}", few.len());
        listed.extend(few.iter().map(|letter| letter.id));
    }
    assert_eq!(listed, ids(&all), "each once");
}

/// Each part of a filter leaves out what it does not name.
pub async fn a_filter_leaves_the_others_out<F>(fixture: F)
where
    F: Fixture<Store: DeadLetters + Inbox>,
{
    let store = fixture.store();
    let plain = dead_letter(1);
    let different = [
        DeadLetter { consumer: OTHER, ..dead_letter(2) },
        DeadLetter { topic: Topic::new("payments.events"), ..dead_letter(2) },
        DeadLetter { key: Bytes::from_static(b"\x00key"), ..dead_letter(2) },
        DeadLetter { reason: "unstartable".to_owned(), ..dead_letter(3) },
    ];
    set_aside(store, different.iter().cloned().chain([plain.clone()]).collect()).await;
    let filters = [
        LetterFilter::all().consumer(ORCHESTRATOR),
        LetterFilter::all().topic(plain.topic.clone()),
        LetterFilter::all().key(plain.key.clone()),
        LetterFilter::all().reason("undecodable"),
    ];
    for (filter, different) in filters.iter().zip(&different) {
        let found = store.letters(filter, None, ALL).await.expect("letters");
        let found = ids(&found);
        assert_eq!(found.len(), 4, "{filter:?} leaves one of five out");
        assert!(!found.contains(&different.id), "{filter:?} must leave {different:?} out");
    }
    let [first, second, third, fourth] = filters;
    let all = LetterFilter { topic: second.topic, key: third.key, reason: fourth.reason, ..first };
    let found = store.letters(&all, None, ALL).await.expect("letters");
    assert_eq!(ids(&found), [plain.id], "all parts must apply");
    let found = store.letters(&LetterFilter::one(plain.id), None, ALL).await.expect("letters");
    assert_eq!(ids(&found), [plain.id], "one was named");
}

/// What a person gives up is gone, and nothing else.
pub async fn a_discarded_letter_is_gone<F>(fixture: F)
where
    F: Fixture<Store: DeadLetters + Inbox>,
{
    let (store, letter, other) = (fixture.store(), dead_letter(1), dead_letter(2));
    set_aside(store, vec![letter.clone(), other.clone()]).await;
    operate(store, LetterAction::Redrive, &[(letter.id, Duration::ZERO)]).await;
    let discarded = operate(store, LetterAction::Discard, &[(letter.id, Duration::ZERO)]).await;
    assert_eq!(discarded, 1);
    assert_eq!(ids(&letters(store).await), [other.id], "the other stays");
    assert_eq!(redriven(store, HOUR).await, [], "it is not handed out any more");
    let again = operate(store, LetterAction::Discard, &[(letter.id, Duration::ZERO)]).await;
    assert_eq!(again, 0, "what is gone is left out");
}

/// Who did what to which letter, when and why, is there for good, oldest first; what is gone is not.
pub async fn what_was_decided_is_on_record<F>(fixture: F)
where
    F: Fixture<Store: DeadLetters + Inbox>,
{
    let (store, letter, other) = (fixture.store(), dead_letter(1), dead_letter(2));
    set_aside(store, vec![letter.clone(), other.clone()]).await;
    let both = [letter.id, other.id, MessageId::now()].map(|id| (id, Duration::ZERO));
    assert_eq!(operate(store, LetterAction::Redrive, &both).await, 2, "the third is unknown");
    operate(store, LetterAction::Discard, &[(letter.id, HOUR)]).await;

    let entries = store.operations(0, ALL).await.expect("operations");
    let mut told: Vec<_> = entries
        .iter()
        .map(|it| (it.operation.clone(), it.letter, it.topic.clone(), it.partition, it.offset))
        .collect();
    told[..2].sort_by_key(|(_, id, ..)| *id);
    let entry = |action, letter: &DeadLetter| {
        let DeadLetter { id, topic, partition, offset, .. } = letter.clone();
        (operation(action), id, topic, partition, offset)
    };
    let redrive = |letter| entry(LetterAction::Redrive, letter);
    let mut expected = vec![redrive(&letter), redrive(&other)];
    expected.sort_by_key(|(_, id, ..)| *id);
    expected.push(entry(LetterAction::Discard, &letter));
    assert_eq!(told, expected);
    assert!(entries.is_sorted_by(|a, b| a.number < b.number && a.at <= b.at), "{entries:?}");
    let rest = store.operations(entries[0].number, 1).await.expect("operations");
    assert_eq!(rest, entries[1..2], "a page begins after the entry that is named");
}

fn operation(action: LetterAction) -> LetterOperation {
    LetterOperation { by: "a law".to_owned(), reason: "to see: \u{fc}".to_owned(), action }
}

async fn operate(
    store: &impl DeadLetters,
    action: LetterAction,
    letters: &[(MessageId, Duration)],
) -> usize {
    store.operate(&operation(action), letters).await.expect("operate")
}

/// Makes letters of which two are more than go through somebody's memory at once.
fn large_letters() -> Vec<DeadLetter> {
    // Each part of them counts.
    let bytes = Bytes::from(vec![7; LETTER_BYTES_MAX / 6 + 1]);
    let headers = vec![("large".to_owned(), bytes.clone())];
    let parts = || DeadLetter { key: bytes.clone(), value: bytes.clone(), ..dead_letter(0) };
    let large = |offset| DeadLetter { offset, headers: headers.clone(), ..parts() };
    (1..=5).map(large).collect()
}

async fn set_aside<S: Inbox>(store: &S, dead_letters: Vec<DeadLetter>) {
    let transaction = store.begin().await.expect("begin");
    let handled = Handled { dead_letters, ..Handled::default() };
    store.record(transaction, handled).await.expect("dead letters must commit");
}

async fn redriven(store: &impl Redrive, lease: Duration) -> Vec<DeadLetter> {
    store.redriven(&ORCHESTRATOR, &[0, 3], lease, ALL).await.expect("redriven")
}

async fn letters(store: &impl DeadLetters) -> Vec<DeadLetter> {
    store.letters(&LetterFilter::all(), None, ALL).await.expect("letters")
}

fn ids(letters: &[DeadLetter]) -> Vec<MessageId> {
    letters.iter().map(|letter| letter.id).collect()
}
