//! The identity of a topic: the id of its cluster, and its own, which brokers give a topic when it is made, and never give again.
//! Two topics of one name have two.
//!
//! librdkafka tells it by its C interface alone, so this is the one file outside of `kernel` with unsafe code: it asks one
//! question, and copies the answer before it is freed.
#![expect(unsafe_code, reason = "the Rust client does not have this question of librdkafka's")]

use std::ffi::{CStr, CString};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::bindings as c;
use rdkafka::client::Client;
use rdkafka::types::RDKafkaRespErr;

use crate::position::TopicIdentity;

/// How long one look for an answer may take.
const LOOK: Duration = Duration::from_millis(100);

/// The identity of `topic`, as far as the brokers tell it within `patience` for each question.
pub(crate) fn identify<C: ClientContext>(client: &Client<C>, topic: &str, patience: Duration) -> TopicIdentity {
    TopicIdentity { cluster: client.fetch_cluster_id(patience), topic: topic_id(client, topic, patience) }
}

/// The id of `topic`, as text; `None` where there is no such topic, brokers are too old to have ids (before Kafka 2.8), or
/// do not answer within `patience`.
fn topic_id<C: ClientContext>(client: &Client<C>, topic: &str, patience: Duration) -> Option<String> {
    let topic = CString::new(topic).ok()?;
    let question = Question::ask(client, &topic, patience)?;
    question.answer(patience)
}

/// A question on its way, with what librdkafka has to be given back afterwards.
struct Question {
    queue: *mut c::rd_kafka_queue_t,
}

impl Question {
    fn ask<C: ClientContext>(client: &Client<C>, topic: &CStr, patience: Duration) -> Option<Self> {
        let client = client.native_ptr();
        // SAFETY: the client lives as long as the reference that it was taken from.
        let queue = unsafe { c::rd_kafka_queue_new(client) };
        if queue.is_null() {
            return None;
        }
        let question = Self { queue };
        // SAFETY: the client lives.
        let options =
            unsafe { c::rd_kafka_AdminOptions_new(client, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS) };
        if options.is_null() {
            return None;
        }
        let milliseconds = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the options were just made; there is no room for a text of the error, and 0 says so.
        unsafe { c::rd_kafka_AdminOptions_set_request_timeout(options, milliseconds, std::ptr::null_mut(), 0) };
        let mut names = [topic.as_ptr()];
        // SAFETY: one name, which ends with a zero; librdkafka copies it.
        let topics = unsafe { c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()) };
        if !topics.is_null() {
            // SAFETY: all four live; librdkafka copies topics and options.
            unsafe { c::rd_kafka_DescribeTopics(client, topics, options, queue) };
            // SAFETY: made above, and not used any more.
            unsafe { c::rd_kafka_TopicCollection_destroy(topics) };
        }
        // SAFETY: made above, and not used any more.
        unsafe { c::rd_kafka_AdminOptions_destroy(options) };
        (!topics.is_null()).then_some(question)
    }

    fn answer(&self, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        loop {
            // SAFETY: the queue lives as long as the question.
            let event = unsafe { c::rd_kafka_queue_poll(self.queue, LOOK.as_millis() as i32) };
            if !event.is_null() {
                return Answer { event }.topic_id();
            }
            if Instant::now() >= deadline {
                return None;
            }
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        // SAFETY: made by `ask`, and used by nobody else.
        unsafe { c::rd_kafka_queue_destroy(self.queue) };
    }
}

/// The answer to a question.
struct Answer {
    event: *mut c::rd_kafka_event_t,
}

impl Answer {
    fn topic_id(&self) -> Option<String> {
        // SAFETY: the event lives as long as the answer.
        let error = unsafe { c::rd_kafka_event_error(self.event) };
        // SAFETY: the event lives as long as the answer.
        let result = unsafe { c::rd_kafka_event_DescribeTopics_result(self.event) };
        if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR || result.is_null() {
            return None;
        }
        let mut n_topics = 0;
        // SAFETY: the result is part of the event, as all that follows is.
        let topics = unsafe { c::rd_kafka_DescribeTopics_result_topics(result, &mut n_topics) };
        if n_topics == 0 || topics.is_null() {
            return None;
        }
        // SAFETY: there is at least one topic.
        let topic = unsafe { *topics };
        // SAFETY: the topic is one of the result's.
        let error = unsafe { c::rd_kafka_TopicDescription_error(topic) };
        if !error.is_null() {
            // SAFETY: the error is there.
            let code = unsafe { c::rd_kafka_error_code(error) };
            if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return None;
            }
        }
        // SAFETY: the topic is one of the result's.
        let id = unsafe { c::rd_kafka_TopicDescription_topic_id(topic) };
        if id.is_null() {
            return None;
        }
        // SAFETY: the id is there.
        let high = unsafe { c::rd_kafka_Uuid_most_significant_bits(id) };
        // SAFETY: the id is there.
        let low = unsafe { c::rd_kafka_Uuid_least_significant_bits(id) };
        // Brokers without ids answer with zeros.
        (high != 0 || low != 0).then(|| format!("{high:016x}{low:016x}"))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: given by the queue, and used by nobody else.
        unsafe { c::rd_kafka_event_destroy(self.event) };
    }
}
