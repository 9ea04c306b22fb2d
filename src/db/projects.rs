//! Projects.

use super::statements;

statements! {}
