use std::collections::HashSet;

use saga_core::message::{Envelope, EnvelopeError, Kind};

use super::shop::{command, fact, reply};
use super::{Flaw, all};

#[test]
fn every_sort_of_message_has_its_poisons_and_each_has_a_name_of_its_own() {
    let all = all();
    let names: HashSet<_> = all.iter().map(super::Poison::name).collect();
    assert_eq!(names.len(), all.len(), "a name is given twice");
    for sound in [command("o-1"), reply(&command("o-1"), "o-1"), fact("o-1")] {
        let count = all.iter().filter(|poison| poison.is_for(&sound)).count();
        assert!(count >= 80, "only {count} poisons bend {sound:?}");
    }
}

#[test]
fn what_can_be_read_of_a_poison_is_what_its_flaw_says() {
    for sound in [command("o-1"), reply(&command("o-1"), "o-1"), fact("o-1")] {
        for poison in all().iter().filter(|poison| poison.is_for(&sound)) {
            let name = poison.name();
            match (poison.flaw(), Envelope::decode(poison.dose(&sound).value)) {
                (Flaw::Undecodable, Err(_)) | (Flaw::Stray | Flaw::Strange, Ok(_)) => {}
                (Flaw::Undecodable, Ok(read)) => panic!("{name} can be read: {read:?}"),
                (flaw, Err(error)) => panic!("{name} ({flaw:?}) cannot be read: {error}"),
                (Flaw::Misplaced, Ok(read)) => {
                    assert_ne!(sort(&read), sort(&sound), "{name} is not misplaced");
                }
                (Flaw::UnknownType, Ok(read)) => {
                    assert_ne!(read.message_type, sound.message_type, "{name}");
                }
                (Flaw::Payload | Flaw::Text, Ok(read)) => {
                    assert_ne!(read.payload, sound.payload, "{name}");
                }
            }
        }
    }
}

#[test]
fn what_is_too_large_is_refused_for_its_size_and_never_looked_into() {
    for poison in all().iter().filter(|it| it.name().starts_with("ten-megabytes")) {
        let read = Envelope::decode(poison.dose(&command("o-1")).value);
        assert!(matches!(read, Err(EnvelopeError::TooLarge { .. })), "{read:?}");
    }
}

fn sort(envelope: &Envelope) -> u8 {
    match envelope.kind {
        Kind::Fact => 0,
        Kind::Command(_) => 1,
        Kind::Reply(_) => 2,
    }
}
