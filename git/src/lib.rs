//! The git remote.
