//! Artefacts of scans.

use super::statements;

statements! {}
