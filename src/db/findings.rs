//! Findings and their triage.

use super::statements;

statements! {}
