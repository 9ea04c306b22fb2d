//! Git uploads: remotes, their refs, packs and pushes.

use super::statements;

statements! {}
