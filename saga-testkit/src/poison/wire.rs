//! Protocol Buffers by hand: for what no encoder writes.

use saga_core::Envelope;

pub(super) const ID: u32 = 1;
pub(super) const TYPE: u32 = 2;
pub(super) const SOURCE: u32 = 3;
pub(super) const CORRELATION: u32 = 4;
pub(super) const CAUSATION: u32 = 5;
pub(super) const TRACEPARENT: u32 = 6;
pub(super) const TIMESTAMP: u32 = 7;
pub(super) const PAYLOAD: u32 = 8;
pub(super) const KIND: u32 = 9;
pub(super) const SAGA: u32 = 10;
pub(super) const STEP: u32 = 11;
pub(super) const ATTEMPT: u32 = 12;
pub(super) const COMPENSATES: u32 = 13;
pub(super) const REPLY_PARTITION: u32 = 14;
pub(super) const OUTCOME: u32 = 15;
pub(super) const REASON: u32 = 16;
/// A field that no release has had.
pub(super) const FUTURE: u32 = 1000;

/// What stands behind the number of a field.
#[derive(Clone)]
pub(super) enum Value {
    Varint(u64),
    Fixed64,
    Bytes(Vec<u8>),
    Fixed32,
}

/// The fields of a message, in the order of the wire.
#[derive(Clone)]
pub(super) struct Fields(Vec<(u32, Value)>);

impl Fields {
    /// Takes a sound envelope apart.
    pub(super) fn of(sound: &Envelope) -> Self {
        let bytes = sound.encode();
        let mut rest = &bytes[..];
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let key = take_varint(&mut rest);
            let number = u32::try_from(key >> 3).expect("an encoder writes sound numbers");
            let value = match key & 7 {
                0 => Value::Varint(take_varint(&mut rest)),
                2 => {
                    let length = usize::try_from(take_varint(&mut rest)).expect("it is in memory");
                    let (bytes, behind) = rest.split_at(length);
                    rest = behind;
                    Value::Bytes(bytes.to_vec())
                }
                other => unreachable!("an envelope has no field of wire type {other}"),
            };
            fields.push((number, value));
        }
        Self(fields)
    }

    /// Puts a value in the place of what the field was.
    pub(super) fn set(mut self, number: u32, value: Value) -> Self {
        match self.0.iter_mut().find(|(other, _)| *other == number) {
            Some(field) => field.1 = value,
            None => self.0.push((number, value)),
        }
        self
    }

    pub(super) fn text(self, number: u32, text: &str) -> Self {
        self.bytes(number, text.as_bytes())
    }

    pub(super) fn bytes(self, number: u32, bytes: &[u8]) -> Self {
        self.set(number, Value::Bytes(bytes.to_vec()))
    }

    /// Sets a number; a negative one takes ten bytes, as encoders write it.
    pub(super) fn number(self, number: u32, value: i64) -> Self {
        self.set(number, Value::Varint(value.cast_unsigned()))
    }

    /// Adds a field behind all others, whether or not there is one of its number.
    pub(super) fn and(mut self, number: u32, value: Value) -> Self {
        self.0.push((number, value));
        self
    }

    pub(super) fn without(mut self, number: u32) -> Self {
        self.0.retain(|(other, _)| *other != number);
        self
    }

    pub(super) fn reversed(mut self) -> Self {
        self.0.reverse();
        self
    }

    /// Keeps the fields up to and with this one.
    pub(super) fn up_to(mut self, number: u32) -> Self {
        self.0.retain(|(other, _)| *other <= number);
        self
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, value) in &self.0 {
            match value {
                Value::Varint(value) => {
                    key(*number, 0, &mut out);
                    varint(*value, &mut out);
                }
                Value::Fixed64 => {
                    key(*number, 1, &mut out);
                    out.extend([0xff; 8]);
                }
                Value::Bytes(bytes) => {
                    key(*number, 2, &mut out);
                    varint(bytes.len() as u64, &mut out);
                    out.extend(bytes);
                }
                Value::Fixed32 => {
                    key(*number, 5, &mut out);
                    out.extend([0xff; 4]);
                }
            }
        }
        out
    }
}

/// Writes what a field begins with.
pub(super) fn key(number: u32, wire_type: u64, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | wire_type, out);
}

pub(super) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Groups inside one another, a form that no current schema uses and every decoder must skip.
pub(super) fn groups(depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    (0..depth).for_each(|_| key(FUTURE, 3, &mut out));
    (0..depth).for_each(|_| key(FUTURE, 4, &mut out));
    out
}

fn take_varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = rest[0];
        *rest = &rest[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}
