//! The scan engine: files in, findings out.
//!
//! This room knows no database, no HTTP and no queue. A caller hands it a
//! [`Source`] (files of a tree and, if wanted, blobs of the history), a
//! [`ResultStore`] (results of earlier scans, kept by content) and an
//! [`Observer`] (progress and events), and gets a [`ScanOutcome`].
//!
//! # A scan costs what changed
//!
//! What one engine finds in one file depends on nothing but the bytes of the
//! file, the engine's version and rules, and the [facet](FileInput::facet) under
//! which the file is looked at. These together are the [`ResultKey`]; a result
//! that is already kept is never computed again, in whichever repository, branch
//! or commit the blob turns up. Paths, fingerprints, suppressions and states are
//! added afterwards, by [`driver`], and never kept with the result.
//!
//! # Bounds
//!
//! Every engine is bounded for each file and each scan ([`Limits`]); what was cut
//! is reported as an event, never dropped in silence. Malformed source never
//! fails a scan.

pub mod assemble;
pub mod code;
pub mod dependencies;
pub mod driver;
pub mod git;
pub mod inventory;
pub mod model;
pub mod report;
pub mod secrets;
pub mod suppress;

pub use driver::Engines;
pub use model::*;
