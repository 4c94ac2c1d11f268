//! Events: what happened to which object, kept for a while and sent to everyone who listens.
//!
//! The last 256 are replayed for `since`. A listener that does not read loses the oldest; nothing
//! in the engine ever waits for one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;

use crate::clock::Timestamp;
use crate::filters::Filters;

/// Events kept for `since`; dockerd keeps as many.
const KEPT: usize = 256;
/// Events a listener may be behind.
const BEHIND: usize = 1024;

/// What kind of object an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Subject {
    Container,
    Image,
    Volume,
    Network,
    Daemon,
    Builder,
}

impl Subject {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Daemon => "daemon",
            Self::Builder => "builder",
        }
    }
}

/// The object of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Actor {
    /// Its id, or name if it has none.
    #[serde(rename = "ID")]
    pub id: String,
    /// Labels and particulars.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

/// One event, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Legacy form of the action; containers and images only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Legacy form of the actor's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Legacy form of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Kind of the object.
    #[serde(rename = "Type")]
    pub subject: Subject,
    /// What happened.
    #[serde(rename = "Action")]
    pub action: String,
    /// To which object.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// Always `local`.
    pub scope: &'static str,
    /// Seconds since 1970.
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// All events of the engine.
pub struct Events {
    recent: Mutex<VecDeque<Arc<Event>>>,
    sender: broadcast::Sender<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            recent: Mutex::default(),
            sender: broadcast::channel(BEHIND).0,
        }
    }
}

impl Events {
    /// Records that `action` happened to the object `id`.
    pub fn emit(
        &self,
        subject: Subject,
        action: impl Into<String>,
        id: &str,
        attributes: BTreeMap<String, String>,
    ) {
        let action = action.into();
        let legacy = matches!(subject, Subject::Container | Subject::Image);
        let now = Timestamp::now();
        let event = Arc::new(Event {
            status: legacy.then(|| action.clone()),
            id: legacy.then(|| id.to_owned()),
            from: (subject == Subject::Container)
                .then(|| attributes.get("image").cloned())
                .flatten()
                .filter(|image| !image.is_empty()),
            subject,
            action,
            actor: Actor {
                id: id.to_owned(),
                attributes,
            },
            scope: "local",
            time: now.unix(),
            time_nano: now.unix_ns(),
        });
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&event));
        // Sent under the lock, so that a listener sees every event once: in the replay or live.
        let _ = self.sender.send(event);
    }

    /// The kept events from `since` on (none without it), and those to come.
    pub fn listen(
        &self,
        since: Option<Timestamp>,
    ) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let replay = since.map_or_else(Vec::new, |since| {
            recent
                .iter()
                .filter(|event| event.time_nano >= since.unix_ns())
                .cloned()
                .collect()
        });
        (replay, self.sender.subscribe())
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }
}

impl Event {
    /// Whether the event passes `filters`.
    pub fn matches(&self, filters: &Filters) -> bool {
        let attributes = &self.actor.attributes;
        filters.any("event", |wanted| self.action_matches(wanted))
            && filters.exact("type", self.subject.name())
            && filters.exact("scope", self.scope)
            && filters.labels(attributes)
            && self.is_about(filters, "container", Subject::Container)
            && self.is_about(filters, "volume", Subject::Volume)
            && self.is_about(filters, "network", Subject::Network)
            && self.is_about(filters, "daemon", Subject::Daemon)
            && self.is_about_image(filters)
            && ["plugin", "service", "node", "secret", "config"]
                .iter()
                .all(|key| !filters.has(key))
    }

    /// `exec_start` also stands for `exec_start: sh`, `health_status` for `health_status: healthy`.
    fn action_matches(&self, wanted: &str) -> bool {
        self.action == wanted
            || self
                .action
                .strip_prefix(wanted)
                .is_some_and(|rest| rest.starts_with(": "))
    }

    fn is_about(&self, filters: &Filters, key: &str, subject: Subject) -> bool {
        filters.any(key, |wanted| {
            let name = self.actor.attributes.get("name").map_or("", String::as_str);
            self.subject == subject
                && (self.actor.id == wanted
                    || name == wanted
                    || (!wanted.is_empty() && self.actor.id.starts_with(wanted)))
        })
    }

    fn is_about_image(&self, filters: &Filters) -> bool {
        filters.any("image", |wanted| {
            let attributes = &self.actor.attributes;
            let named = match self.subject {
                Subject::Image => attributes.get("name"),
                Subject::Container => attributes.get("image"),
                _ => return false,
            };
            let without_tag = |name: &str| {
                let (base, tag) = name.rsplit_once(':').unwrap_or((name, ""));
                if tag.contains('/') {
                    name.to_owned()
                } else {
                    base.to_owned()
                }
            };
            (self.subject == Subject::Image && self.actor.id == wanted)
                || named.is_some_and(|name| name == wanted || without_tag(name) == wanted)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn one(action: &str) -> Arc<Event> {
        let events = Events::default();
        let about = attributes(&[("image", "busybox:1"), ("name", "web"), ("k", "v")]);
        events.emit(Subject::Container, action, "abc123", about);
        events.listen(Some(Timestamp::from_unix_ns(0))).0.remove(0)
    }

    #[test]
    fn looks_as_dockerd_sends_it() {
        let mut value = serde_json::to_value(&*one("start")).unwrap();
        let object = value.as_object_mut().unwrap();
        assert!(object.remove("time").is_some() && object.remove("timeNano").is_some());
        let golden = serde_json::json!({"status": "start", "id": "abc123", "from": "busybox:1",
            "Type": "container", "Action": "start", "scope": "local", "Actor": {"ID": "abc123",
            "Attributes": {"image": "busybox:1", "name": "web", "k": "v"}}});
        assert_eq!(value, golden);
    }

    #[test]
    fn filters_match_names_ids_labels_and_action_prefixes() {
        for (filter, action, expected) in [
            (r#"{"event":["exec_start"]}"#, "exec_start: sh -c x", true),
            (r#"{"event":["exec"]}"#, "exec_start: sh", false),
            (r#"{"container":["web"]}"#, "die", true),
            (r#"{"container":["abc"]}"#, "die", true),
            (r#"{"container":["other"]}"#, "die", false),
            (r#"{"image":["busybox"]}"#, "die", true),
            (r#"{"label":["k=v"],"type":["container"]}"#, "die", true),
            (r#"{"type":["network"]}"#, "die", false),
            (r#"{"volume":["web"]}"#, "die", false),
        ] {
            let filters = Filters::parse_any(Some(filter)).unwrap();
            assert_eq!(one(action).matches(&filters), expected, "{filter}");
        }
    }

    #[test]
    fn only_the_last_ones_are_replayed() {
        let events = Events::default();
        for number in 0..300 {
            events.emit(
                Subject::Volume,
                "create",
                &number.to_string(),
                BTreeMap::new(),
            );
        }
        let (replay, _) = events.listen(Some(Timestamp::from_unix_ns(0)));
        assert_eq!((replay.len(), replay[0].actor.id.as_str()), (256, "44"));
        assert!(events.listen(None).0.is_empty());
    }
}
