//! Repositories.

use super::statements;

statements! {}
