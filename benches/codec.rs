//! What is encoded and decoded on the way: envelopes, the payload of a command, the state of a saga.

use benches::{Do, command, decode_state, encode_state, fact, half_way, reply};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use saga_core::{Codec, Envelope, Json, MessageId, Protobuf, SagaId};

fn envelopes(c: &mut Criterion) {
    let (id, saga) = (MessageId::now(), SagaId::now());
    let mut group = c.benchmark_group("envelope");
    for (name, envelope) in [
        ("command", command(id, saga, 1)),
        ("reply", reply(MessageId::now(), id, saga)),
        ("fact", fact(id)),
    ] {
        let bytes = envelope.encode();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("{name}/encode"), |b| b.iter(|| envelope.encode()));
        group.bench_function(format!("{name}/decode"), |b| {
            b.iter(|| Envelope::decode(bytes.clone()));
        });
    }
    group.finish();
}

fn payload<F: Codec<Do>>(c: &mut Criterion, format: &str) {
    let command = Do { order: 1_000_000 };
    let bytes = F::encode(&command).expect("a command can be encoded");
    let mut group = c.benchmark_group(format!("payload/{format}"));
    group.bench_function("encode", |b| b.iter(|| F::encode(&command)));
    group.bench_function("decode", |b| b.iter(|| F::decode(bytes.as_bytes())));
    group.finish();
}

fn payloads(c: &mut Criterion) {
    payload::<Json>(c, "json");
    payload::<Protobuf>(c, "protobuf");
}

fn state(c: &mut Criterion) {
    let progress = half_way();
    let bytes = encode_state(&progress);
    let mut group = c.benchmark_group("state");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |b| b.iter(|| encode_state(&progress)));
    group.bench_function("decode", |b| b.iter(|| decode_state(bytes.clone())));
    group.finish();
}

criterion_group!(benches, envelopes, payloads, state);
criterion_main!(benches);
