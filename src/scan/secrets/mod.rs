//! The secrets engine.
