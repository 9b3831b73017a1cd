//! A schema registry at work: questions and answers on a thread of their own, so that a slow registry holds up the source for
//! no longer than the source allows.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::RegistrySetupError;
use super::http::{RegistryClient, RegistryError};
use crate::decode::{Format, RegistryConfig, SchemaId, SchemaLookup, SchemaResolver, SourceConfig};
use crate::kafka::LogThrottle;
use crate::source::transient_errors::TRANSIENT_ERRORS;

/// Longest wait for an answer at a time.
const WAIT: Duration = Duration::from_millis(100);
/// Pause after the first question that was not answered; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long an answer that there is no such schema is believed: the schema may be registered yet.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
/// Most such answers that are remembered.
const UNKNOWN: usize = 256;
/// Highest number that registries give: they count in 32 bits with a sign, and some answer questions for higher ones as if
/// the address were wrong.
const MAX_ID: SchemaId = i32::MAX as SchemaId;
/// How often a schema is offered to a registry that does not answer.
const OFFERS: u32 = 6;

/// A schema registry, which is asked on a thread of its own.
#[derive(Debug)]
pub struct SchemaRegistry {
    questions: Sender<SchemaId>,
    answers: Receiver<(SchemaId, SchemaLookup)>,
    /// The schema that the thread is asking for.
    pending: Option<SchemaId>,
    /// Schemas that the registry does not have, why, and when it said so; oldest first.
    unknown: Vec<(SchemaId, String, Instant)>,
}

impl SchemaRegistry {
    /// The registry of `source`, which is asked for nothing yet.
    ///
    /// # Errors
    /// The operating system starts no thread.
    pub fn new(source: &SourceConfig) -> Result<Self, RegistrySetupError> {
        let (questions, asked) = unbounded();
        let (answer, answers) = unbounded();
        let client = RegistryClient::new(&source.registry, source.format);
        let url = source.registry.url.clone();
        // Not waited for at the end: the thread may be in the middle of a request, and nobody needs the answer.
        std::thread::Builder::new()
            .name("registry".to_owned())
            .spawn(move || serve(&client, &url, &asked, &answer))
            .map_err(RegistrySetupError::Thread)?;
        Ok(Self { questions, answers, pending: None, unknown: Vec::new() })
    }
}

impl SchemaResolver for SchemaRegistry {
    fn schema(&mut self, id: SchemaId) -> SchemaLookup {
        if id > MAX_ID {
            return SchemaLookup::Unknown("no registry has a number as high".to_owned());
        }
        self.unknown.retain(|(_, _, said)| said.elapsed() < UNKNOWN_FOR);
        if let Some((_, problem, _)) = self.unknown.iter().find(|(unknown, _, _)| *unknown == id) {
            return SchemaLookup::Unknown(problem.clone());
        }
        if self.pending != Some(id) {
            // What was asked for before is of no interest any more.
            let _ = self.questions.send(id);
            self.pending = Some(id);
        }
        let deadline = Instant::now() + WAIT;
        while let Ok((answered, lookup)) = self.answers.recv_deadline(deadline) {
            if answered != id {
                continue;
            }
            self.pending = None;
            if let SchemaLookup::Unknown(problem) = &lookup {
                self.unknown.truncate(UNKNOWN - 1);
                self.unknown.push((id, problem.clone(), Instant::now()));
            }
            return lookup;
        }
        SchemaLookup::NotYet
    }
}

/// Answers questions until nobody is there to ask; the newest question counts.
fn serve(
    client: &RegistryClient,
    url: &str,
    questions: &Receiver<SchemaId>,
    answers: &Sender<(SchemaId, SchemaLookup)>,
) {
    let mut next = questions.recv();
    while let Ok(mut id) = next {
        let (mut pause, mut reminder, mut failed) = (FIRST_PAUSE, LogThrottle::default(), false);
        loop {
            match client.schema(id) {
                Ok(lookup) => {
                    if failed {
                        tracing::info!(registry = url, "the schema registry answers again");
                    }
                    if answers.send((id, lookup)).is_err() {
                        return;
                    }
                    break;
                }
                Err(RegistryError(cause)) => {
                    failed = true;
                    TRANSIENT_ERRORS.increment();
                    if reminder.due() {
                        tracing::warn!(
                            registry = url,
                            schema = id,
                            cause,
                            "the schema registry is in trouble; waiting"
                        );
                    }
                }
            }
            match questions.recv_timeout(pause) {
                Ok(newer) => id = newer,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        next = questions.recv();
    }
}

/// Offers a schema once; `Ok(Err)` where the registry refuses it.
pub(super) fn offer(
    registry: &RegistryConfig,
    format: Format,
    subject: &str,
    schema: &str,
) -> Result<Result<SchemaId, String>, String> {
    RegistryClient::new(registry, format).register(subject, schema).map_err(|RegistryError(trouble)| trouble)
}

/// Registers a schema under `subject`, or finds the number that it has there already.
pub(super) fn register(source: &SourceConfig, subject: &str, schema: &str) -> Result<SchemaId, RegistrySetupError> {
    let client = RegistryClient::new(&source.registry, source.format);
    let mut cause = String::new();
    for offer in 0..OFFERS {
        if offer > 0 {
            std::thread::sleep(FIRST_PAUSE * (1 << offer));
        }
        match client.register(subject, schema) {
            Ok(Ok(id)) => return Ok(id),
            Ok(Err(refusal)) => {
                cause = refusal;
                break;
            }
            Err(RegistryError(trouble)) => cause = trouble,
        }
    }
    let url = source.registry.url.clone();
    Err(RegistrySetupError::Register { url, subject: subject.to_owned(), cause })
}
