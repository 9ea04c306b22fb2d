//! Results of the engines, kept by content.

use super::statements;

statements! {}
