//! How data becomes bytes and back.

use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::BoxError;

/// Encoded data: opaque to the engine, the stores and the transports.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Payload(pub Bytes);

impl Payload {
    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Payload {
    /// Shows the length only: a payload may hold what must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// Data that could not be turned into bytes or back.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CodecError(BoxError);

impl CodecError {
    /// Wraps what the format said.
    pub fn new(source: impl Into<BoxError>) -> Self {
        Self(source.into())
    }
}

/// A format for values of type `T`.
///
/// The format of a saga's data and of a message is chosen where the type is defined
/// ([`SagaData::Codec`](crate::SagaData::Codec), [`Message::Codec`](crate::Message::Codec)) and is
/// part of what is stored: changing it is a new version.
pub trait Codec<T>: 'static {
    /// Turns a value into bytes.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the format cannot express the value.
    fn encode(value: &T) -> Result<Payload, CodecError>;

    /// Turns bytes back into a value.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the bytes are not a value of this type in this format.
    fn decode(bytes: &[u8]) -> Result<T, CodecError>;
}

thread_local! {
    /// Where a thread writes JSON, so that the payload is allocated once, when its size is known.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A thread gives back what one large value took.
const ROOM_MAX: usize = 64 * 1024;

/// JSON through `serde`: readable in the database, tolerant of added fields.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    fn encode(value: &T) -> Result<Payload, CodecError> {
        // A value that encodes another one meanwhile finds no room, and makes some.
        let mut room = ROOM.take();
        room.clear();
        let written = serde_json::to_writer(&mut room, value);
        let encoded = written.map(|()| Payload(Bytes::copy_from_slice(&room)));
        if room.capacity() <= ROOM_MAX {
            ROOM.set(room);
        }
        encoded.map_err(CodecError::new)
    }

    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        serde_json::from_slice(bytes).map_err(CodecError::new)
    }
}

/// Protocol Buffers through `prost`: compact, and shared with other languages.
#[derive(Debug, Clone, Copy)]
pub struct Protobuf;

impl<T: prost::Message + Default> Codec<T> for Protobuf {
    fn encode(value: &T) -> Result<Payload, CodecError> {
        Ok(Payload::from(value.encode_to_vec()))
    }

    fn decode(bytes: &[u8]) -> Result<T, CodecError> {
        T::decode(bytes).map_err(CodecError::new)
    }
}
