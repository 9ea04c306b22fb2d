//! Configuration: every key once, with its name, default, meaning and check.
