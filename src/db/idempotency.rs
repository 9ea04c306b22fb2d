//! Answers kept for repeated requests.

use super::statements;

statements! {}
