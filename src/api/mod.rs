//! The REST API: one file for each endpoint group.
