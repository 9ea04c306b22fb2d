//! Sign-ins and their refresh tokens.

use super::statements;

statements! {}
