//! A sink for many who wait: messages of requests that come at the same time share one durable write.
//!
//! One thread owns the sink. While it waits for the broker or the disk, the next requests gather; then
//! all of them go at once. So a disk that syncs 100 times a second takes thousands of events. What is on
//! its way is bounded, and who would have to wait longer than the broker is given is refused unsent.

use super::config::StreamConfig;
use super::message::{Outgoing, Place, Sink};
use super::start::prompt_sink;
use super::{Clock, StreamError};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Most messages of one write; a request that holds more goes alone.
const MAX_GROUP: usize = 4_096;

/// Why messages were not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// As many are on their way as may be; none of these was sent.
    #[error("{limit} events are on their way to the stream, which is the most at once (produce.max_in_flight)")]
    Full {
        /// The bound.
        limit: usize,
    },
    /// The turn came too late; none of these was sent.
    #[error("the stream did not take events within {waited_ms} ms (produce.acknowledge_ms)")]
    Late {
        /// How long they waited, in milliseconds.
        waited_ms: u64,
    },
    /// The broker or the disk did not acknowledge them. They may be there all the same.
    #[error("{reason}")]
    Unacknowledged {
        /// The sink's reason.
        reason: String,
    },
}

/// Messages of one request.
struct Request {
    messages: Vec<Outgoing>,
    since: Instant,
    answer: oneshot::Sender<Result<Vec<Place>, ProduceError>>,
    /// Room that they take.
    room: OwnedSemaphorePermit,
}

impl Request {
    fn reply(self, outcome: Result<Vec<Place>, ProduceError>) {
        // First: who hears the answer finds room for the next.
        drop(self.room);
        // An error means that the client went away in the meantime.
        let _ = self.answer.send(outcome);
    }
}

/// The sink of a stream behind a queue. Dropped, it finishes what is in the queue.
pub struct Producer {
    queue: Option<mpsc::UnboundedSender<Request>>,
    room: Arc<Semaphore>,
    limit: usize,
    thread: Option<JoinHandle<()>>,
}

impl Producer {
    /// Opens the sink of a stream's events and starts the thread. `clock_ms` dates messages of a log, in
    /// milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// The configuration breaks a rule, another process writes to the log, or the system gives no thread.
    pub fn start(config: &StreamConfig, clock_ms: &Clock) -> Result<Producer, StreamError> {
        let sink = prompt_sink(config, clock_ms)?;
        Producer::over(sink, config)
    }

    /// [`Producer::start`] over a sink of the caller's.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn over(mut sink: Box<dyn Sink + Send>, config: &StreamConfig) -> Result<Producer, StreamError> {
        let limit = config.produce.max_in_flight;
        // Unbounded as a queue: the semaphore bounds what may be in it.
        let (queue, requests) = mpsc::unbounded_channel();
        let patience = config.produce.acknowledge();
        let thread = std::thread::Builder::new().name("stream-producer".into());
        let thread = thread.spawn(move || run(requests, &mut *sink, patience));
        let thread = thread.map_err(StreamError::io(std::path::Path::new("thread stream-producer")))?;
        let room = Arc::new(Semaphore::new(limit));
        Ok(Producer { queue: Some(queue), room, limit, thread: Some(thread) })
    }

    /// Messages that are on their way.
    pub fn in_flight(&self) -> usize {
        self.limit - self.room.available_permits()
    }

    /// Hands over messages; gives their places, in order, once they are durable.
    ///
    /// # Errors
    /// None of them counts as taken. After [`ProduceError::Unacknowledged`] they may be there all the
    /// same: sent again with the same event ids they count once.
    pub async fn put(&self, messages: Vec<Outgoing>) -> Result<Vec<Place>, ProduceError> {
        let full = ProduceError::Full { limit: self.limit };
        let count = u32::try_from(messages.len()).map_err(|_| full.clone())?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(count).map_err(|_| full)?;
        let (answer, answered) = oneshot::channel();
        let request = Request { messages, since: Instant::now(), answer, room };
        let ended = || ProduceError::Unacknowledged { reason: "the stream's producer has ended".to_owned() };
        let queue = self.queue.as_ref().expect("it is taken when the producer is dropped");
        queue.send(request).map_err(|_| ended())?;
        answered.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was told on stderr, and every request of it was refused.
            let _ = thread.join();
        }
    }
}

fn run(mut requests: mpsc::UnboundedReceiver<Request>, sink: &mut dyn Sink, patience: std::time::Duration) {
    while let Some(first) = requests.blocking_recv() {
        let mut count = first.messages.len();
        let mut group = vec![first];
        while count < MAX_GROUP {
            let Ok(next) = requests.try_recv() else { break };
            count += next.messages.len();
            group.push(next);
        }
        answer(group, sink, patience);
    }
}

/// Writes the messages of a group at once and tells each request.
fn answer(group: Vec<Request>, sink: &mut dyn Sink, patience: std::time::Duration) {
    let (mut sent, mut messages) = (Vec::new(), Vec::new());
    for mut request in group {
        // A client that went away, or that has waited as long as the broker would be given.
        if request.answer.is_closed() {
            continue;
        }
        let waited = request.since.elapsed();
        if waited >= patience {
            let waited_ms = waited.as_millis() as u64;
            request.reply(Err(ProduceError::Late { waited_ms }));
            continue;
        }
        messages.append(&mut request.messages);
        sent.push((request, messages.len()));
    }
    if sent.is_empty() {
        return;
    }
    let outcome = sink.put(&messages);
    let (mut from, places) = (0, outcome.map_err(|error| ProduceError::Unacknowledged { reason: error.to_string() }));
    if let Err(refusal) = &places {
        tracing::warn!(events = messages.len(), reason = %refusal, "the stream did not take events");
    }
    for (request, to) in sent {
        let answer = places.as_ref().map(|places| places[from..to].to_vec()).map_err(ProduceError::clone);
        from = to;
        request.reply(answer);
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Producer({} of {} messages on their way)", self.in_flight(), self.limit)
    }
}
