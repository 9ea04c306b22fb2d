//! Snapshots and threat profiles of repositories.

use super::statements;

statements! {}
