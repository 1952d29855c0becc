//! Which partition a key belongs to.

/// Returns the partition of a key among `partitions`, as Java's default partitioner picks it.
///
/// Every transport uses it for records without a partition, so that a key stays where it is
/// whichever service, language or transport publishes it. An empty key is a key like any other.
///
/// # Panics
///
/// If `partitions` is 0: a topic has at least one.
///
/// # Examples
///
/// ```
/// use saga_core::transport::partition_for;
/// assert_eq!(partition_for(b"order-7", 8), partition_for(b"order-7", 8));
/// assert!(partition_for(b"order-7", 8) < 8);
/// ```
#[must_use]
pub fn partition_for(key: &[u8], partitions: u32) -> u32 {
    // Java clears the sign bit of the hash.
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// The hash of `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const MIX: u32 = 0x5bd1_e995;

    #[expect(clippy::cast_possible_truncation, reason = "a key has less than 4 GiB")]
    let mut hash = SEED ^ (key.len() as u32);
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut word = u32::from_le_bytes(word.try_into().expect("chunks have 4 bytes"));
        word = word.wrapping_mul(MIX);
        word ^= word >> 24;
        hash = hash.wrapping_mul(MIX) ^ word.wrapping_mul(MIX);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(MIX);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MIX);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own `UtilsTest`.
    #[test]
    fn keys_hash_as_in_java() {
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in vectors {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn every_key_has_a_partition() {
        for partitions in 1..20 {
            for key in 0..100_u32 {
                assert!(partition_for(&key.to_be_bytes(), partitions) < partitions);
            }
        }
        // toPositive(-790332482) % 8
        assert_eq!(partition_for(b"foobar", 8), 6);
    }
}
