//! What Kafka's codes mean for the caller.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use saga_core::{Topic, TransportError};

/// Why a setting is refused, without its value: that may be a secret.
pub(crate) fn refused_setting(error: &KafkaError) -> TransportError {
    let reason = match error {
        KafkaError::ClientConfig(_, _, key, _) => {
            format!("`{key}` is no property of librdkafka, or cannot have this value")
        }
        // The text names properties and features, never values of secrets.
        other => other.to_string(),
    };
    TransportError::Configuration { reason }
}

/// What a failed delivery means.
pub(crate) fn publish_failed(error: KafkaError, topic: &Topic) -> TransportError {
    let topic = topic.clone();
    match error.rdkafka_error_code() {
        // The topic is gone, or has lost partitions: both are mended by creating topics.
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => {
            TransportError::UnknownTopic { topic }
        }
        // Sending the same bytes again gets the same answer.
        Some(
            Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge // more than the topic's `segment.bytes`
            | Code::InvalidMessageSize
            | Code::InvalidRecord // e.g. no key on a compacted topic
            | Code::InvalidTimestamp
            | Code::PolicyViolation
            | Code::UnknownPartition
            | Code::TopicAuthorizationFailed,
        ) => TransportError::Refused { topic, source: error.into() },
        // Everything else that ends a delivery ends the publisher: a lost sequence, a fatal error,
        // or that an earlier record failed and this one was purged.
        _ => TransportError::PublisherFailed { operation: "publish", source: error.into() },
    }
}

/// Whether a delivery failed only because another one did, or because the publisher closes.
pub(crate) fn is_consequence(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(
        code,
        Some(Code::Fatal | Code::GaplessGuarantee | Code::PurgeQueue | Code::PurgeInflight)
    )
}

/// What a failed question about a topic means.
pub(crate) fn topic_failed(error: KafkaError, topic: &Topic) -> TransportError {
    match error.rdkafka_error_code() {
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => {
            TransportError::UnknownTopic { topic: topic.clone() }
        }
        _ => request_failed(error, "asking for a topic"),
    }
}

/// What a failed request means that is about no topic in particular.
pub(crate) fn request_failed(error: KafkaError, operation: &'static str) -> TransportError {
    match error.rdkafka_error_code().and_then(wrong_configuration) {
        Some(reason) => TransportError::Configuration { reason: format!("{reason} ({error})") },
        None => TransportError::Unavailable { operation, source: error.into() },
    }
}

/// What a person must change, if a person must.
pub(crate) fn wrong_configuration(code: Code) -> Option<&'static str> {
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed => {
            Some("the broker refuses the credentials: check the `sasl.*` settings")
        }
        Code::UnsupportedSASLMechanism => {
            Some("the broker does not know the mechanism: check `sasl.mechanism`")
        }
        Code::SSL => Some("the TLS handshake failed: check the `ssl.*` settings"),
        Code::TopicAuthorizationFailed => Some("access to a topic is denied: grant it"),
        Code::GroupAuthorizationFailed => Some("access to the group is denied: grant it"),
        Code::ClusterAuthorizationFailed => Some("access to the cluster is denied: grant it"),
        Code::InvalidSessionTimeout => {
            Some("the broker refuses `session_timeout`: see its `group.min.session.timeout.ms`")
        }
        Code::InconsistentGroupProtocol => {
            Some("the group has members with another assignor: use another group name")
        }
        Code::InvalidReplicationFactor => Some("there are not enough brokers: check `replication`"),
        _ => None,
    }
}
