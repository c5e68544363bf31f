//! Kafka: a topic as a source and as a sink, through librdkafka.
//!
//! The group decides who reads which partition, and nothing else: where to read is what the state
//! store says. Offsets committed to the broker are for people and dashboards.

mod ask;
mod context;
mod member;
mod sink;
mod source;

pub use sink::KafkaSink;
pub use source::KafkaSource;

use super::StreamError;
use super::config::KafkaConfig;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What every client of a cluster is told.
///
/// # Errors
/// The password's file cannot be read.
fn client(config: &KafkaConfig) -> Result<ClientConfig, StreamError> {
    let mut client = ClientConfig::new();
    for (name, value) in &config.properties {
        client.set(name, value);
    }
    client.set("bootstrap.servers", &config.brokers);
    if let Some(security) = &config.security {
        for (name, value) in security.properties()? {
            client.set(name, value);
        }
    }
    Ok(client)
}

/// A failure of the library, with whether it passes.
fn refusal(what: String, error: &KafkaError) -> StreamError {
    StreamError::Kafka { what, reason: error.to_string(), passes: passes(error) }
}

/// Whether the broker does not have the offset that was asked for: retention has overtaken the reader, or the topic was
/// made anew. Which of the two it is, and where reading goes on, is found out where partitions are taken over.
fn overtaken(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset)
}

/// Whether librdkafka goes on by itself: brokers come back, topics appear, leaders move.
fn passes(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::MessageTimedOut
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::NotEnoughReplicas
                | Code::NotEnoughReplicasAfterAppend
                | Code::NotCoordinator
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::NetworkException
                | Code::RebalanceInProgress
                | Code::PollExceeded
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::OffsetNotAvailable
                | Code::WaitingForCoordinator
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_passes_or_overtakes_or_ends_the_consumer() {
        use RDKafkaErrorCode as Code;
        let check = |code: Code, expect: (bool, bool)| {
            let error = KafkaError::MessageConsumption(code);
            assert_eq!((passes(&error), overtaken(&error)), expect, "{error}");
        };
        check(Code::BrokerTransportFailure, (true, false));
        check(Code::UnknownTopicOrPartition, (true, false));
        check(Code::AutoOffsetReset, (false, true));
        check(Code::TopicAuthorizationFailed, (false, false));
    }
}
