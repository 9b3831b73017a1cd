//! A broker inside the process: librdkafka's mock cluster, so that nothing has to be installed to see the job run.
//!
//! It speaks the real protocol on a port of the loopback address, lives as long as the [`EmbeddedBroker`], and keeps
//! everything in memory. **It keeps only about 5 MiB per partition**: older records are dropped, so that a producer has
//! to be paced by the consumer, or the consumer's position is lost. It creates no topics over the protocol (see
//! [`EmbeddedBroker::create_topic`]), hides no aborted transactions and knows no offsets for times.

use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded, unbounded};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::{ClientError, ClientFailure};

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Request = Box<dyn FnOnce(&Cluster) + Send>;

/// A running broker; stopped when dropped.
#[derive(Debug)]
pub struct EmbeddedBroker {
    bootstrap: String,
    requests: Option<Sender<Request>>,
    /// The cluster's handle must not change threads, so that it has one of its own.
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedBroker {
    /// Starts a broker with one topic.
    ///
    /// # Errors
    /// If the cluster or the topic cannot be created.
    pub fn start(topic: &str, partitions: i32) -> Result<Self, ClientError> {
        let (requests, taken) = unbounded::<Request>();
        let (started, outcome) = bounded(1);
        let thread = std::thread::Builder::new()
            .name("embedded-broker".to_owned())
            .spawn(move || {
                let cluster = match MockCluster::new(1) {
                    Ok(cluster) => cluster,
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                let _ = started.send(Ok(cluster.bootstrap_servers()));
                for request in taken {
                    request(&cluster);
                }
            })
            .map_err(|error| ClientError::failed(super::EMBEDDED, "the broker's thread does not start", error))?;
        let bootstrap = outcome.recv().expect("the broker's thread answers").map_err(|error| {
            ClientError::failed(super::EMBEDDED, "the broker does not start", ClientFailure::from(error))
        })?;
        let broker = Self { bootstrap, requests: Some(requests), thread: Some(thread) };
        broker.create_topic(topic, partitions)?;
        Ok(broker)
    }

    /// Where clients reach it: `host:port`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Creates a further topic.
    ///
    /// # Errors
    /// If there is one of that name, or the name or number is not valid.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), ClientError> {
        let name = topic.to_owned();
        self.ask(move |cluster| cluster.create_topic(&name, partitions, 1)).map_err(|error| {
            ClientError::failed(
                super::EMBEDDED,
                format!("topic '{topic}' cannot be created"),
                ClientFailure::from(error),
            )
        })
    }

    /// Takes the broker away without forgetting its records, as a test of patience.
    ///
    /// # Errors
    /// If the cluster refuses.
    pub fn go_down(&self) -> Result<(), ClientError> {
        self.ask(|cluster| cluster.broker_down(1)).map_err(|error| {
            ClientError::failed(super::EMBEDDED, "the broker does not go down", ClientFailure::from(error))
        })
    }

    /// Brings the broker back.
    ///
    /// # Errors
    /// If the cluster refuses.
    pub fn come_up(&self) -> Result<(), ClientError> {
        self.ask(|cluster| cluster.broker_up(1)).map_err(|error| {
            ClientError::failed(super::EMBEDDED, "the broker does not come up", ClientFailure::from(error))
        })
    }

    fn ask<T: Send + 'static>(&self, request: impl FnOnce(&Cluster) -> T + Send + 'static) -> T {
        let (answer, answered) = bounded(1);
        let request: Request = Box::new(move |cluster| {
            let _ = answer.send(request(cluster));
        });
        if let Some(requests) = &self.requests {
            let _ = requests.send(request);
        }
        answered.recv().expect("the broker's thread lives as long as the broker")
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
