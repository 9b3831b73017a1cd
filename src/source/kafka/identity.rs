//! Whether the topic, and the worker, are the ones that a state knows: offsets mean nothing in another topic of the same
//! name, and a state means nothing to another worker of the group.
//!
//! | what is found | what follows |
//! | --- | --- |
//! | the topic, or the cluster, has another id than the one that was read | refused: [`KafkaSourceError::OtherTopic`]; `negstream migrate` keeps the model and sets the positions anew |
//! | brokers that tell no ids | the time of the record before the position is compared instead (`partitions`) |
//! | the state is that of a worker of another name, and the group knows that name | refused: [`KafkaSourceError::OtherWorker`]: folders were exchanged, or one was copied |
//! | the state is that of a worker of another name, which the group does not know | the worker was given a name, or another one: its next claims say so, for copies of the folder that come back under the old one |

use super::errors::KafkaSourceError;
use super::group::ownership::Claims;
use crate::position::{TopicChange, TopicIdentity};

/// Checks that a topic is the one that was read.
///
/// # Errors
/// [`KafkaSourceError::OtherTopic`].
pub(super) fn check_topic(topic: &str, was: &TopicIdentity, is: &TopicIdentity) -> Result<(), KafkaSourceError> {
    let found = match was.changed_to(is) {
        None => return Ok(()),
        Some(TopicChange::Cluster) => "the brokers are another cluster than the one that it was read from",
        Some(TopicChange::Topic) => "the topic was created anew since it was read",
    };
    Err(KafkaSourceError::OtherTopic { topic: topic.to_owned(), found })
}

/// What the group knows of workers by name.
#[derive(Debug)]
pub(super) struct KnownWorkers<'a> {
    /// The group's histories of all partitions.
    pub(super) histories: Vec<&'a Claims>,
    /// Ids of the group's members. That of a member with a lasting name begins with that name.
    pub(super) members: &'a [String],
}

impl KnownWorkers<'_> {
    /// Checks that the state of worker `was` may be that of worker `name`, whether it is the same or not.
    ///
    /// # Errors
    /// [`KafkaSourceError::OtherWorker`].
    pub(super) fn check(&self, was: &str, name: &str) -> Result<(), KafkaSourceError> {
        if was.is_empty() {
            return Ok(());
        }
        let refuse =
            |found: String| Err(KafkaSourceError::OtherWorker { was: was.to_owned(), name: name.to_owned(), found });
        let mut claims = self.histories.iter().flat_map(|history| history.iter());
        if let Some(later) = claims.clone().find(|claim| claim.was.as_deref() == Some(was) && claim.by != name) {
            return refuse(format!("that worker has gone on as '{}' since, with a copy of them", later.by));
        }
        if was == name {
            return Ok(());
        }
        if claims.any(|claim| claim.by == name && claim.was.as_deref() != Some(was)) {
            return refuse(format!("'{name}' has records of its own in the group"));
        }
        if self.members.iter().any(|id| is_member_called(was, id)) {
            return refuse(format!("'{was}' is at work in the group, or was a moment ago"));
        }
        Ok(())
    }
}

/// Whether the id of a group's member is that of the one with the lasting name `name`: brokers put a random part behind it.
pub(super) fn is_member_called(name: &str, id: &str) -> bool {
    const RANDOM: usize = "-00000000-0000-0000-0000-000000000000".len();
    id.strip_prefix(name).is_some_and(|rest| rest.starts_with('-') && rest.len() == RANDOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(cluster: Option<&str>, topic: Option<&str>) -> TopicIdentity {
        TopicIdentity { cluster: cluster.map(str::to_owned), topic: topic.map(str::to_owned) }
    }

    #[test]
    fn topic_is_another_one_by_its_id_or_its_cluster() {
        let was = identity(Some("c"), Some("t"));
        check_topic("events", &was, &was).unwrap();
        for unknown in [identity(None, None), identity(Some("c"), None), identity(None, Some("t"))] {
            check_topic("events", &was, &unknown).unwrap();
            check_topic("events", &unknown, &was).unwrap();
        }
        let anew = check_topic("events", &was, &identity(Some("c"), Some("u"))).unwrap_err().to_string();
        assert!(anew.contains("created anew") && anew.contains("negstream migrate"), "{anew}");
        let elsewhere = check_topic("events", &was, &identity(Some("d"), Some("u"))).unwrap_err().to_string();
        assert!(elsewhere.contains("another cluster"), "{elsewhere}");
    }

    #[test]
    fn state_of_another_worker_is_refused_where_the_group_knows_both() {
        let claims = |text: &str| Claims::parse(text);
        let both = [
            claims(r#"{"negstream_claims":[{"n":0,"by":"m0","from":0}]}"#),
            claims(r#"{"negstream_claims":[{"n":0,"by":"m1","from":0}]}"#),
        ];
        let group = KnownWorkers { histories: both.iter().collect(), members: &[] };
        group.check("m0", "m0").unwrap();
        group.check("", "m1").unwrap();
        let swapped = group.check("m0", "m1").unwrap_err().to_string();
        assert!(swapped.contains("'m1' has records of its own"), "{swapped}");
        // A worker that is given a name.
        group.check("m0", "m2").unwrap();
        let live = ["m0-00000000-0000-0000-0000-000000000000".to_owned()];
        let at_work = KnownWorkers { histories: both.iter().collect(), members: &live };
        let copied = at_work.check("m0", "m2").unwrap_err().to_string();
        assert!(copied.contains("'m0' is at work"), "{copied}");
        let renamed =
            [claims(r#"{"negstream_claims":[{"n":0,"by":"m0","from":0},{"n":1,"by":"m2","from":5,"was":"m0"}]}"#)];
        let group = KnownWorkers { histories: renamed.iter().collect(), members: &[] };
        group.check("m0", "m2").unwrap();
        group.check("m2", "m2").unwrap();
        let copied = group.check("m0", "m0").unwrap_err().to_string();
        assert!(copied.contains("gone on as 'm2'"), "{copied}");
    }
}
