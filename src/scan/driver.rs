//! Runs the engines over a source: inventory, cache, fingerprints, suppressions.
