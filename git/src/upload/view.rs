//! What a client may see of a repository: its refs, `HEAD`, and where the objects are.

use std::{collections::HashSet, path::PathBuf};

use gix_hash::ObjectId;

use super::Version;
use crate::{
    refs::{self, Ref},
    remote::{FetchPolicy, Head, Refusal, Repository},
};

/// The repository as it is at one moment, without its hidden refs.
#[derive(Debug)]
pub(super) struct View {
    /// Sorted by name.
    pub refs: Vec<Ref>,
    pub head: Option<Head>,
    /// The commits whose parents the repository does not have.
    pub shallow: Vec<ObjectId>,
    pub objects: PathBuf,
    pub hash: gix_hash::Kind,
    pub policy: FetchPolicy,
    /// What hidden refs point to, if it may be had all the same.
    pub hidden_tips: HashSet<ObjectId>,
}

impl View {
    pub async fn of<R: Repository>(repository: &R, version: Version) -> Result<Self, Refusal> {
        let mut policy = repository.fetch_policy();
        if version == Version::V2 {
            policy.wants = policy.wants_v2.unwrap_or(policy.wants);
        }
        // Refs first: the objects that are found afterwards hold all that these lead to.
        let refs = repository.refs().await?;
        let head = repository.head().await?;
        let shallow = repository.shallow().await?;
        let objects = repository.objects_dir().await?;
        let (hidden, mut refs): (Vec<Ref>, Vec<Ref>) = refs
            .into_iter()
            .partition(|reference| refs::hidden(&reference.name, &policy.hidden_refs));
        let hidden_tips = hidden.into_iter().filter(|_| policy.hidden_tips);
        let hidden_tips = hidden_tips.map(|reference| reference.id).collect();
        refs.sort();
        Ok(Self {
            refs,
            head,
            shallow,
            objects,
            hash: repository.object_hash(),
            policy,
            hidden_tips,
        })
    }

    /// What a ref that is wanted by its name points to. Git also wants `HEAD` in this way.
    pub fn wanted(&self, name: &str) -> Option<ObjectId> {
        if name == "HEAD" { self.head_id() } else { self.find(name) }
    }

    /// What a ref points to.
    pub fn find(&self, name: &str) -> Option<ObjectId> {
        let at = self.refs.binary_search_by(|reference| reference.name.as_str().cmp(name)).ok()?;
        Some(self.refs[at].id)
    }

    /// The branch that `HEAD` names, whether it exists or not.
    pub fn head_branch(&self) -> Option<&str> {
        match &self.head {
            Some(Head::Branch(name)) => {
                (!refs::hidden(name, &self.policy.hidden_refs)).then_some(name.as_str())
            }
            _ => None,
        }
    }

    /// What `HEAD` points to.
    pub fn head_id(&self) -> Option<ObjectId> {
        match &self.head {
            Some(Head::Detached(id)) => Some(*id),
            _ => self.find(self.head_branch()?),
        }
    }

    /// What all visible refs point to, and `HEAD`.
    pub fn tips(&self) -> Vec<ObjectId> {
        self.refs.iter().map(|reference| reference.id).chain(self.head_id()).collect()
    }

    /// A ref by its full name or by a short one, in git's order of guesses.
    pub fn guess(&self, name: &str) -> Option<ObjectId> {
        if name == "HEAD" {
            return self.head_id();
        }
        ["", "refs/", "refs/tags/", "refs/heads/", "refs/remotes/"]
            .iter()
            .find_map(|folder| self.find(&format!("{folder}{name}")))
    }

    /// Refs that may be annotated tags: branches are commits, whatever was pushed.
    pub fn may_be_tag(reference: &Ref) -> bool {
        !reference.name.starts_with("refs/heads/")
    }
}
