//! The server: state, router, start, graceful stop.
