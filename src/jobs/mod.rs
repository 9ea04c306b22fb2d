//! What a worker does, free of HTTP.

pub mod source;
