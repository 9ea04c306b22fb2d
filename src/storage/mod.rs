//! Objects: the interface and its backends.
