//! The code engine.
