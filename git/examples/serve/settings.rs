//! What a repository's configuration says, by git's names.
//!
//! | key | what it does here |
//! |---|---|
//! | `extensions.objectFormat` | `sha1` or `sha256` |
//! | `http.receivepack`, `http.uploadpack` | whether pushes and fetches are served |
//! | `receive.denyDeletes`, `denyDeleteCurrent`, `denyNonFastForwards`, `shallowUpdate` | rules |
//! | `receive.denyCurrentBranch` | in a repository with a working tree: `ignore` or refuse |
//! | `receive.maxInputSize` | bytes of a pack |
//! | `receive.advertiseAtomic`, `advertisePushOptions`, `certNonceSeed`, `certNonceSlop` | what is offered |
//! | `receive.fsckObjects` or `transfer.fsckObjects`, `receive.fsck.<message>`, `receive.fsck.skipList` | checks |
//! | `transfer.hideRefs`, `receive.hideRefs`, `uploadpack.hideRefs` | with `!` and `^` |
//! | `uploadpack.allowTipSHA1InWant`, `allowReachableSHA1InWant`, `allowAnySHA1InWant` | wants |
//! | `uploadpack.allowFilter`, `uploadpackfilter.*`, `uploadpack.allowRefInWant` (or `advertiseRefInWant`) | what is offered |
//! | `lsrefs.unborn`, `protocol.version` | the same; the version is the highest that is spoken |
//! | `core.logAllRefUpdates`, `core.hooksPath`, `gpg.ssh.allowedSignersFile` | reflogs, hooks, signers |
//!
//! `receive.unpackLimit` changes nothing: a pack stays a pack. One thing differs from git: version 2
//! of the protocol lets git's clients have every object by its id, whatever the refs are; here they
//! have what the visible refs lead to, unless `allowAnySHA1InWant` is set.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use gix_config::{File, Source};
use gix_object::bstr::ByteSlice as _;
use sluice_git::{
    Direction, FetchPolicy, Filters, Head, Nonces, Policy, Refusal, Unborn, Wants,
    fsck::{Fsck, Level, LevelError, Levels},
    object_id,
};

use crate::refs;

/// Which refs get a reflog that have none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reflogs {
    /// None, the usual for bare repositories.
    None,
    /// Branches, remote branches and notes.
    Branches,
    /// All refs.
    All,
}

/// The configuration of one repository, read anew for each request.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The hash function of all ids.
    pub hash: gix_hash::Kind,
    /// `http.uploadpack`
    pub serves_fetches: bool,
    /// `http.receivepack`, if it is set.
    pub takes_pushes: Option<bool>,
    /// Rules and limits of a push.
    pub push: Policy,
    /// Rules and limits of a fetch.
    pub fetch: FetchPolicy,
    /// What is odd about the configuration itself, for the person who pushes.
    pub warnings: Vec<String>,
    /// A branch whose files somebody works on, so that it must not move under them.
    pub checked_out: Option<String>,
    pub reflogs: Reflogs,
    /// Where the hooks are.
    pub hooks: PathBuf,
    /// Who may sign with an SSH key.
    pub allowed_signers: Option<PathBuf>,
}

impl Settings {
    /// Reads the configuration of the repository in `folder`, which is served at `path`.
    pub fn read(folder: &Path, path: &str, direction: Direction) -> Result<Self, Refusal> {
        let head = refs::head(folder).map_err(Refusal::internal)?;
        let config = Config::open(&folder.join("config")).map_err(Refusal::internal)?;
        let wrong = |text: String| {
            tracing::error!(path, "the configuration of a repository cannot be followed: {text}");
            Refusal::forbidden(format!("the configuration of this repository is wrong: {text}"))
        };
        if config.text("extensions.refStorage").is_some_and(|format| format != "files") {
            return Err(wrong("its refs are kept in a format that is not known here".into()));
        }
        let hash = match config.text("extensions.objectFormat").as_deref() {
            None | Some("sha1") => gix_hash::Kind::Sha1,
            Some("sha256") => gix_hash::Kind::Sha256,
            Some(other) => return Err(wrong(format!("the object format {other} is not known"))),
        };
        let mut warnings = Vec::new();
        let fsck = match direction {
            Direction::Push => config.fsck(folder, hash, &mut warnings).map_err(wrong)?,
            Direction::Fetch => Fsck::Off,
        };
        let mut push = config.push(path, fsck);
        // Whatever is not a boolean (`refuse`, `warn`) is read as git reads it.
        let keeps_current = !matches!(
            config.text("receive.denyDeleteCurrent").as_deref(),
            Some("false" | "no" | "off" | "0" | "ignore" | "warn")
        );
        let bare = config.flag("core.bare").unwrap_or(!folder.ends_with(".git"));
        let mut checked_out = None;
        if let Some(Head::Branch(name)) = head {
            let allowed = matches!(
                config.text("receive.denyCurrentBranch").as_deref(),
                Some("false" | "no" | "off" | "0" | "ignore" | "warn")
            );
            checked_out = (!bare && !allowed).then(|| name.clone());
            push.current_branch = Some(name).filter(|_| keeps_current);
        }
        Ok(Self {
            hash,
            serves_fetches: config.flag("http.uploadpack").unwrap_or(true),
            takes_pushes: config.flag("http.receivepack"),
            push,
            checked_out,
            warnings,
            fetch: config.fetch(),
            reflogs: match config.text("core.logAllRefUpdates").as_deref() {
                Some("always") => Reflogs::All,
                _ if config.flag("core.logAllRefUpdates").unwrap_or(!bare) => Reflogs::Branches,
                _ => Reflogs::None,
            },
            hooks: folder.join(config.text("core.hooksPath").unwrap_or_else(|| "hooks".into())),
            allowed_signers: config
                .text("gpg.ssh.allowedSignersFile")
                .map(|name| folder.join(name)),
        })
    }
}

struct Config(File);

impl Config {
    /// A file that is missing says nothing.
    fn open(path: &Path) -> io::Result<Self> {
        if !path.exists() {
            return Ok(Self(File::default()));
        }
        let file = File::from_path_no_includes(path.to_owned(), Source::Local);
        file.map(Self).map_err(|error| io::Error::other(error.to_string()))
    }

    fn text(&self, key: &str) -> Option<String> {
        self.0.string(key).map(|value| value.to_str_lossy().into_owned())
    }

    /// A boolean that is none counts as if it was not there.
    fn flag(&self, key: &str) -> Option<bool> {
        self.0.boolean(key).ok().flatten()
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.0.integer(key).ok().flatten().and_then(|number| u64::try_from(number).ok())
    }

    /// The rules of `transfer.hideRefs` and of a service, in the order of the file.
    fn hidden(&self, service: &str) -> Vec<String> {
        let sections = self.0.sections().filter(|section| {
            let header = section.header();
            let name = header.name().to_str_lossy().to_ascii_lowercase();
            header.subsection_name().is_none() && (name == "transfer" || name == service)
        });
        let rules = sections.flat_map(|section| section.values("hideRefs"));
        rules.map(|rule| rule.to_str_lossy().into_owned()).collect()
    }

    fn push(&self, path: &str, fsck: Fsck) -> Policy {
        let mut policy = Policy {
            deny_deletes: self.flag("receive.denyDeletes").unwrap_or(false),
            deny_non_fast_forwards: self.flag("receive.denyNonFastForwards").unwrap_or(false),
            hidden_refs: self.hidden("receive"),
            max_refs: usize::MAX,
            fsck,
            atomic: self.flag("receive.advertiseAtomic").unwrap_or(true),
            push_options: self.flag("receive.advertisePushOptions").unwrap_or(false),
            certificates: self.text("receive.certNonceSeed").map(|seed| {
                let slop = self.number("receive.certNonceSlop").unwrap_or(0);
                Nonces::new(seed, path, Duration::from_secs(slop))
            }),
            shallow_updates: self.flag("receive.shallowUpdate").unwrap_or(false),
            // Git works here too, and its garbage collection prunes object by object.
            closed_store: false,
            ..Policy::default()
        };
        policy.limits.object_bytes = policy.limits.pack_bytes;
        if let Some(bytes) = self.number("receive.maxInputSize").filter(|bytes| *bytes > 0) {
            policy.limits.pack_bytes = bytes;
        }
        policy
    }

    fn fetch(&self) -> FetchPolicy {
        let allows = |key: &str| self.flag(&format!("uploadpack.{key}")).unwrap_or(false);
        let wants = if allows("allowAnySHA1InWant") {
            Wants::Any
        } else if allows("allowReachableSHA1InWant") {
            Wants::Reachable
        } else {
            Wants::Tips
        };
        FetchPolicy {
            wants,
            wants_v2: (wants == Wants::Tips).then_some(Wants::Reachable),
            hidden_tips: allows("allowTipSHA1InWant"),
            filter: allows("allowFilter"),
            filters: self.filters(),
            ref_in_want: allows("allowRefInWant") || allows("advertiseRefInWant"),
            unborn: match self.text("lsrefs.unborn").as_deref() {
                Some("allow") => Unborn::Allowed,
                Some("ignore") => Unborn::Ignored,
                _ => Unborn::Advertised,
            },
            max_version: match self.text("protocol.version").as_deref() {
                Some("0") => 0,
                Some("1") => 1,
                _ => 2,
            },
            hidden_refs: self.hidden("uploadpack"),
            ..FetchPolicy::default()
        }
    }

    /// `uploadpackfilter.allow` and `uploadpackfilter.<filter>.allow`
    fn filters(&self) -> Filters {
        let mut filters = Filters::default();
        for section in self.0.sections_by_name("uploadpackfilter").into_iter().flatten() {
            let header = section.header();
            let name = header.subsection_name().map(|name| name.to_str_lossy().into_owned());
            let key = match &name {
                Some(name) => format!("uploadpackfilter.{name}"),
                None => "uploadpackfilter".to_owned(),
            };
            let allow = self.flag(&format!("{key}.allow"));
            match (name, allow) {
                (Some(name), Some(allow)) => {
                    filters.named.insert(name, allow);
                }
                (None, Some(allow)) => filters.others = allow,
                (_, None) => {}
            }
        }
        let depth = self.number("uploadpackfilter.tree.maxDepth");
        filters.tree_depth = depth.map(|depth| u32::try_from(depth).unwrap_or(u32::MAX));
        filters
    }

    fn fsck(
        &self,
        folder: &Path,
        hash: gix_hash::Kind,
        warnings: &mut Vec<String>,
    ) -> Result<Fsck, String> {
        let asked = self.flag("receive.fsckObjects").or(self.flag("transfer.fsckObjects"));
        if asked != Some(true) {
            return Ok(Fsck::Off);
        }
        let mut levels = Levels::default();
        for section in self.0.sections_by_name("receive").into_iter().flatten() {
            if section.header().subsection_name().is_none_or(|name| name != "fsck") {
                continue;
            }
            for key in section.value_names() {
                let value = section.value(&key).unwrap_or_default();
                let value = value.to_str_lossy();
                if key.eq_ignore_ascii_case("skipList") {
                    skip(&mut levels, &folder.join(&*value), &value, hash)?;
                    continue;
                }
                let level = Level::parse(&value)
                    .ok_or_else(|| format!("unknown fsck message type: '{value}'"))?;
                match levels.set(&key, level) {
                    Ok(()) => {}
                    Err(LevelError::Unknown(_)) => {
                        warnings.push(format!(
                            "warning: skipping unknown msg id '{}'",
                            key.to_ascii_lowercase()
                        ));
                    }
                    Err(LevelError::Fatal(_)) => {
                        let key = key.to_ascii_lowercase();
                        return Err(format!("Cannot demote {key} to {value}"));
                    }
                }
            }
        }
        Ok(Fsck::Levels(levels))
    }
}

/// Reads a list of objects: an id a line, `#` begins a comment.
fn skip(levels: &mut Levels, file: &Path, name: &str, hash: gix_hash::Kind) -> Result<(), String> {
    let text =
        fs::read_to_string(file).map_err(|_| format!("could not open object name list: {name}"))?;
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let id = object_id(line.as_bytes(), hash);
        levels.skip(id.ok_or_else(|| format!("invalid object name: {line}"))?);
    }
    Ok(())
}
