//! A record in the bytes of Kafka's protocol, for what no client library sends.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// A header whose name and value may be anything.
pub(crate) type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// Appends one record to a partition of a topic whose leader is the broker at `address`.
pub(crate) fn append(
    address: &str,
    topic: &str,
    partition: i32,
    key: &[u8],
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) {
    let batch = batch(key, value, headers);
    let mut request = Vec::new();
    request.extend(0_i16.to_be_bytes()); // Produce
    request.extend(7_i16.to_be_bytes()); // in its version 7
    request.extend(1_i32.to_be_bytes());
    string(b"poison", &mut request); // the client's name
    request.extend((-1_i16).to_be_bytes()); // no transaction
    request.extend((-1_i16).to_be_bytes()); // all replicas
    request.extend(30_000_i32.to_be_bytes());
    request.extend(1_i32.to_be_bytes());
    string(topic.as_bytes(), &mut request);
    request.extend(1_i32.to_be_bytes());
    request.extend(partition.to_be_bytes());
    length(batch.len(), &mut request);
    request.extend(batch);

    let mut broker = TcpStream::connect(address).expect("a broker answers");
    let mut framed = Vec::new();
    length(request.len(), &mut framed);
    framed.extend(request);
    broker.write_all(&framed).expect("the broker takes the request");
    let mut size = [0; 4];
    broker.read_exact(&mut size).expect("the broker answers");
    let size = usize::try_from(i32::from_be_bytes(size)).expect("a size");
    let mut answer = vec![0; size];
    broker.read_exact(&mut answer).expect("the broker answers");
    // The correlation, one topic with its name, one partition with its number, and the error.
    let at = 4 + 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(&answer[at..at + 2], [0, 0], "the broker must append the record");
}

/// See <https://kafka.apache.org/documentation/#recordbatch>.
fn batch(key: &[u8], value: Option<&[u8]>, headers: &[Header<'_>]) -> Vec<u8> {
    let mut record = vec![0]; // attributes
    zigzag(0, &mut record); // timestamp, from the batch's
    zigzag(0, &mut record); // offset, from the batch's
    bytes(Some(key), &mut record);
    bytes(value, &mut record);
    zigzag(headers.len().cast_signed() as i64, &mut record);
    for (name, value) in headers {
        bytes(Some(name), &mut record);
        bytes(*value, &mut record);
    }
    let mut checked = Vec::new();
    checked.extend(0_i16.to_be_bytes()); // attributes: not compressed
    checked.extend(0_i32.to_be_bytes()); // last offset, from the batch's
    checked.extend(1_767_225_600_000_i64.to_be_bytes()); // first timestamp
    checked.extend(1_767_225_600_000_i64.to_be_bytes()); // last timestamp
    checked.extend((-1_i64).to_be_bytes()); // no idempotent producer
    checked.extend((-1_i16).to_be_bytes());
    checked.extend((-1_i32).to_be_bytes());
    checked.extend(1_i32.to_be_bytes());
    zigzag(record.len().cast_signed() as i64, &mut checked);
    checked.extend(record);

    let mut batch = Vec::new();
    batch.extend(0_i64.to_be_bytes()); // offset: the broker's to choose
    length(checked.len() + 9, &mut batch);
    batch.extend((-1_i32).to_be_bytes()); // leader epoch
    batch.push(2); // format
    batch.extend(crc32c(&checked).to_be_bytes());
    batch.extend(checked);
    batch
}

fn length(length: usize, out: &mut Vec<u8>) {
    out.extend(i32::try_from(length).expect("a small message").to_be_bytes());
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    out.extend(i16::try_from(text.len()).expect("a short name").to_be_bytes());
    out.extend(text);
}

fn bytes(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        None => zigzag(-1, out),
        Some(bytes) => {
            zigzag(bytes.len().cast_signed() as i64, out);
            out.extend(bytes);
        }
    }
}

fn zigzag(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest > 0x7f {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    let step = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| shift(crc));
    !bytes.iter().fold(!0, step)
}
