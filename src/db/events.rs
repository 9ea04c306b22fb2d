//! Events of scans.

use super::statements;

statements! {}
