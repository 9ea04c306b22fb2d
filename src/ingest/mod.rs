//! From a pushed head to a snapshot, languages and a threat profile.

pub mod history;
