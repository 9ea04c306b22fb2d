//! Accounts.

use super::statements;

statements! {}
