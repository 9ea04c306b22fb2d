//! What a message says: which job waits, and which slots take it. Nothing else, so that
//! who reads the queue learns nothing, and a message that is old, doubled or forged does
//! no harm.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::db::jobs::Lane;

/// Longer ones are none of ours.
const MOST_BYTES: usize = 1024;

/// Fields that a later version adds are ignored by this one.
#[derive(Serialize, Deserialize)]
struct Body {
    job: Uuid,
    lane: String,
}

/// The text of a message.
pub(super) fn write(job: Uuid, lane: Lane) -> String {
    // Of an id and a word JSON can always be made.
    serde_json::to_string(&Body { job, lane: lane.as_str().to_owned() }).unwrap_or_default()
}

/// Job and lane of a message; `None` if it is not ours, or for a version that knows more
/// lanes.
pub(super) fn read(text: &str) -> Option<(Uuid, Lane)> {
    if text.len() > MOST_BYTES {
        return None;
    }
    let body: Body = serde_json::from_str(text).ok()?;
    Some((body.job, Lane::parse(&body.lane)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let id = Uuid::now_v7();
        for lane in Lane::ALL {
            assert_eq!(read(&write(id, lane)), Some((id, lane)));
        }
        let later = format!(r#"{{"job":"{id}","lane":"work","more":1}}"#);
        assert_eq!(read(&later), Some((id, Lane::Work)));
        let long = format!(r#"{{"job":"{id}","lane":"work","x":"{}"}}"#, "x".repeat(MOST_BYTES));
        let unknown = format!(r#"{{"job":"{id}","lane":"nights"}}"#);
        for other in
            ["", "{}", "null", "[]", "hello", r#"{"job":1,"lane":"work"}"#, &unknown, &long]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
