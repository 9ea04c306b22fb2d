//! API keys.

use super::statements;

statements! {}
