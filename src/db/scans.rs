//! Scans.

use super::statements;

statements! {}
