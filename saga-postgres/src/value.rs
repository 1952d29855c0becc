//! Values of the contracts as values of columns, and back.

use std::time::Duration;

use saga_core::Timestamp;
use saga_core::error::BoxError;
use saga_core::machine::Status;
use saga_core::store::StoreError;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{
    PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef, types::Oid,
};
use sqlx::{Decode, Encode, Postgres, Type};

use crate::error;

/// A number that the column which it is for cannot hold.
#[derive(Debug, thiserror::Error)]
#[error("{field} {value} is out of range")]
pub(crate) struct OutOfRange {
    field: &'static str,
    value: u64,
}

/// Fits an unsigned number into a signed column.
pub(crate) fn fit<U: Copy + Into<u64> + TryInto<I>, I>(
    operation: &'static str,
    field: &'static str,
    value: U,
) -> Result<I, StoreError> {
    value
        .try_into()
        .map_err(|_| error::refused(operation, OutOfRange { field, value: value.into() }))
}

/// What is stored for a status. Numbers are never given to another status.
pub(crate) const fn status_code(status: Status) -> i16 {
    match status {
        Status::Running => 0,
        Status::Compensating => 1,
        Status::Completed => 2,
        Status::Compensated => 3,
        Status::Parked => 4,
    }
}

/// Reads what [`status_code`] wrote.
pub(crate) fn status(code: i16) -> Result<Status, BoxError> {
    Ok(match code {
        0 => Status::Running,
        1 => Status::Compensating,
        2 => Status::Completed,
        3 => Status::Compensated,
        4 => Status::Parked,
        _ => return Err(format!("{code} is no status").into()),
    })
}

/// A `timestamptz` as it is sent: microseconds since 2000-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timestamptz(i64);

/// 2000-01-01 in microseconds since 1970-01-01.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// 4714 BC: the earliest that a column can hold. The latest is after the latest [`Timestamp`].
const FIRST: i64 = -211_813_488_000_000_000;

impl Timestamptz {
    /// Later than every time.
    pub(crate) const INFINITY: Self = Self(i64::MAX);

    /// Returns the time since 1970, or `None` for never.
    pub(crate) fn time(self) -> Option<Timestamp> {
        (self != Self::INFINITY)
            .then(|| Timestamp::from_micros(self.0.saturating_add(EPOCH_MICROS)))
    }
}

impl From<Timestamp> for Timestamptz {
    fn from(time: Timestamp) -> Self {
        Self(time.as_micros().saturating_sub(EPOCH_MICROS).max(FIRST))
    }
}

impl Type<Postgres> for Timestamptz {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl PgHasArrayType for Timestamptz {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1185))
    }
}

impl Encode<'_, Postgres> for Timestamptz {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for Timestamptz {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => Ok(Self(i64::from_be_bytes(value.as_bytes()?.try_into()?))),
            PgValueFormat::Text => Err("a time must be read in the binary format".into()),
        }
    }
}

/// Microseconds for an interval from now. Beyond a thousand years a `timestamptz` would end.
pub(crate) fn micros(duration: Duration) -> i64 {
    const MILLENNIUM: i64 = 1_000 * 365 * 24 * 60 * 60 * 1_000_000;
    i64::try_from(duration.as_micros()).unwrap_or(MILLENNIUM).min(MILLENNIUM)
}

/// A number of rows to ask for; more than a column can count is all.
pub(crate) fn rows(limit: usize) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_it_was_written() {
        let all = [
            Status::Running,
            Status::Compensating,
            Status::Completed,
            Status::Compensated,
            Status::Parked,
        ];
        for (expected, written) in (0..).zip(all) {
            assert_eq!(status_code(written), expected, "stored codes never change");
            assert_eq!(status(expected).unwrap(), written);
        }
        assert_eq!(status(5).unwrap_err().to_string(), "5 is no status");
    }

    #[test]
    fn a_time_is_read_as_it_was_written() {
        for micros in [0, -1, EPOCH_MICROS, 1_767_225_600_123_456, i64::MAX] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(Timestamptz::from(time).time(), Some(time));
        }
        assert_eq!(Timestamptz::INFINITY.time(), None);
        assert_eq!(Timestamptz::from(Timestamp::from_micros(i64::MIN)), Timestamptz(FIRST));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let fits: Result<i32, _> = fit("commit", "home", 7_u32);
        assert_eq!(fits.unwrap(), 7);
        let refused: Result<i32, _> = fit("commit", "home", u32::MAX);
        let Err(StoreError::Refused { source, .. }) = refused else { panic!("got {refused:?}") };
        assert_eq!(source.to_string(), "home 4294967295 is out of range");
    }
}
