//! Instructions of a decision and of the codec, counted by callgrind: the same on a noisy machine.
//!
//! `make bench-instructions` compares them with those of another commit.

#![expect(missing_docs, reason = "the macros make public items without")]

use benches::{Do, Kind, Transition, command, decode_state, encode_state, fact, half_way, reply};
use bytes::Bytes;
use gungraun::{library_benchmark, library_benchmark_group, main};
use saga_core::machine::{Decision, Progress};
use saga_core::message::EnvelopeError;
use saga_core::{Codec as _, CodecError, Envelope, Json, MessageId, Payload, Protobuf, SagaId};
use uuid::Uuid;

const ID: MessageId = MessageId(Uuid::from_u128(1));
const SAGA: SagaId = SagaId(Uuid::from_u128(2));

/// Brings a saga to where the event comes, in a process that has decided before.
fn warmed(kind: Kind) -> Transition {
    let _ = Transition::of(Kind::Started).decide();
    Transition::of(kind)
}

#[library_benchmark(setup = warmed)]
#[bench::started(Kind::Started)]
#[bench::succeeded(Kind::Succeeded)]
#[bench::rejected(Kind::Rejected)]
#[bench::failed(Kind::Failed)]
#[bench::no_reply(Kind::NoReply)]
#[bench::retry_due(Kind::RetryDue)]
#[bench::cancel_requested(Kind::CancelRequested)]
#[bench::operator_retry(Kind::OperatorRetry)]
fn decide(transition: Transition) -> Decision {
    transition.decide()
}

// What is encoded is returned with the bytes, so that its drop is not counted.

#[library_benchmark]
#[bench::command(command(ID, SAGA, 1))]
#[bench::reply(reply(ID, ID, SAGA))]
#[bench::fact(fact(ID))]
fn encode_envelope(envelope: Envelope) -> (Bytes, Envelope) {
    (envelope.encode(), envelope)
}

#[library_benchmark]
#[bench::command(command(ID, SAGA, 1).encode())]
#[bench::reply(reply(ID, ID, SAGA).encode())]
#[bench::fact(fact(ID).encode())]
fn decode_envelope(bytes: Bytes) -> Result<Envelope, EnvelopeError> {
    Envelope::decode(bytes)
}

type Encode = fn(&Do) -> Result<Payload, CodecError>;

/// Returns the function in a process that has called it before.
fn encoded_before(encode: Encode) -> Encode {
    let _ = encode(&Do { order: 1 });
    encode
}

#[library_benchmark]
#[bench::json(encoded_before(Json::encode))]
#[bench::protobuf(encoded_before(Protobuf::encode))]
fn encode_payload(encode: Encode) -> Result<Payload, CodecError> {
    encode(&Do { order: 1_000_000 })
}

#[library_benchmark]
#[bench::json(Json::decode, br#"{"order":1000000}"#)]
#[bench::protobuf(Protobuf::decode, b"\x08\xc0\x84\x3d")]
fn decode_payload(
    decode: fn(&[u8]) -> Result<Do, CodecError>,
    bytes: &[u8],
) -> Result<Do, CodecError> {
    decode(bytes)
}

#[library_benchmark]
#[bench::half_way(half_way())]
fn encode_saga(progress: Progress) -> (Bytes, Progress) {
    (encode_state(&progress), progress)
}

#[library_benchmark]
#[bench::half_way(encode_state(&half_way()))]
fn decode_saga(state: Bytes) -> Progress {
    decode_state(state)
}

library_benchmark_group!(name = machine, benchmarks = [decide]);
library_benchmark_group!(
    name = codec,
    benchmarks = [
        encode_envelope,
        decode_envelope,
        encode_payload,
        decode_payload,
        encode_saga,
        decode_saga
    ]
);
main!(library_benchmark_groups = [machine, codec]);
