//! What a worker does, free of HTTP.
