//! The database: one file for each aggregate. SQL lives here only.
