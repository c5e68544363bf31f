//! What travels: messages as a source gives them and as a sink takes them, bytes not yet understood.

/// Longest payload accepted, in bytes; a longer one is put aside unread.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// Bytes of messages (keys, headers and payloads) at which a batch is full, whatever their number.
pub const MAX_BATCH_BYTES: usize = 16 << 20;

/// A message of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Partition it was read from; a log has one, 0.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
    /// When the log took it, or the timestamp that the topic gives it: the broker's time if the topic's
    /// `message.timestamp.type` is LogAppendTime, the producer's word if it is CreateTime, Kafka's default. In
    /// milliseconds since the Unix epoch; none if unknown.
    pub taken_ms: Option<i64>,
    /// The producer's key.
    pub key: Vec<u8>,
    /// The bytes.
    pub payload: Vec<u8>,
    /// Names and values beside the payload.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Message {
    /// Bytes of key, headers and payload.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        self.key.len() + headers.sum::<usize>() + self.payload.len()
    }
}

/// A message for a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Messages of one key stay in order.
    pub key: Vec<u8>,
    /// The bytes.
    pub payload: Vec<u8>,
    /// Names and values beside the payload.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Where a message came to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Partition; a log has one, 0.
    pub partition: u32,
    /// Offset there; none where the broker did not say, as when it had the message from an earlier try.
    pub offset: Option<u64>,
}

/// Where messages go: a topic or a log.
pub trait Sink {
    /// Hands over messages; they are durable when it returns, each at the place that stands for it.
    ///
    /// # Errors
    /// Not all of them are known to be durable; sending them again is then up to the caller.
    fn put(&mut self, messages: &[Outgoing]) -> Result<Vec<Place>, super::StreamError>;
}

/// Where messages come from: a topic or a log.
pub trait Source {
    /// Name under which the state store keeps this source's positions.
    fn name(&self) -> &str;

    /// How far the store said that each partition of this source was applied when it began to read it: a store that
    /// says less later has lost writes.
    fn began(&self) -> std::collections::BTreeMap<u32, u64>;

    /// Appends up to `most` messages to `batch`, and no more after [`MAX_BATCH_BYTES`] of them, after waiting
    /// up to `wait` for the first. Messages of a partition come in order of offset. Those of partitions that were
    /// taken away meanwhile are removed from `batch`.
    ///
    /// # Errors
    /// The source cannot go on.
    fn poll(
        &mut self,
        batch: &mut Vec<Message>,
        most: usize,
        wait: std::time::Duration,
    ) -> Result<(), super::StreamError>;

    /// Told after the effects of messages are durable, with the last offset of each partition.
    ///
    /// # Errors
    /// The source cannot go on.
    fn applied(&mut self, reached: &std::collections::BTreeMap<u32, u64>) -> Result<(), super::StreamError>;

    /// Whether everything that was there when the source was opened has been given out, by this
    /// source: what other members of a group hold does not count.
    fn at_end(&self) -> bool;

    /// Whether there is nothing to give out just now, so that waiting for more would be in vain.
    fn idle(&self) -> bool {
        self.at_end()
    }

    /// Offset after the last message of each partition that is read, as far as known now.
    fn ends(&self) -> std::collections::BTreeMap<u32, u64>;

    /// Messages not yet given out, by partition, as far as known.
    fn lag(&self) -> std::collections::BTreeMap<u32, u64>;

    /// How many times partitions came or went.
    fn rebalances(&self) -> u64 {
        0
    }

    /// Offsets passed over because no message lies there any more: they were removed before they were applied, or, in
    /// a log, writes failed.
    fn lost(&self) -> u64 {
        0
    }

    /// Whether the source answers, as far as known.
    fn connected(&self) -> bool {
        true
    }
}
