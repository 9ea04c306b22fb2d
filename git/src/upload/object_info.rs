//! The command `object-info`: the sizes of objects, without the objects.
//!
//! The same objects can be asked about that can be fetched; of others it says, as of those that are
//! not here, nothing behind their id.

use std::sync::{Arc, atomic::AtomicBool};

use gix_hash::ObjectId;

use super::{
    Answer, Error, lines::Lines, policy, request::object_id, store::Store, v2::unexpected,
    view::View,
};
use crate::remote::FetchPolicy;

/// The arguments.
#[derive(Debug, Default)]
pub(super) struct ObjectInfo {
    size: bool,
    ids: Vec<ObjectId>,
}

impl ObjectInfo {
    pub fn argument(
        &mut self,
        line: &str,
        policy: &FetchPolicy,
        hash: gix_hash::Kind,
    ) -> Result<(), Error> {
        match line.split_once(' ') {
            None if line == "size" => self.size = true,
            Some(("oid", id)) => {
                if self.ids.len() >= policy.limits.wants {
                    return Err(Error::Protocol("object-info: too many objects".into()));
                }
                self.ids.push(object_id(id, hash)?);
            }
            _ => return Err(unexpected("object-info", line)),
        }
        Ok(())
    }
}

/// Answers the command. Blocking.
pub(super) fn answer(
    view: &View,
    command: &ObjectInfo,
    cancel: &Arc<AtomicBool>,
) -> Result<Answer, Error> {
    let mut lines = Lines::default();
    if command.size && !command.ids.is_empty() {
        let mut store = Store::open(&view.objects, view.hash)?;
        let (tips, allowed) = (view.tips(), view.policy.wants);
        let refused =
            policy::refused(&mut store, &view.shallow, &tips, &command.ids, allowed, cancel)?;
        lines.line("size");
        for id in &command.ids {
            let place = store.place(id).filter(|_| !refused.contains(id));
            let size = match place {
                Some(place) => store.header(place)?.1.to_string(),
                None => String::new(),
            };
            lines.line(format!("{id} {size}"));
        }
    }
    lines.flush();
    Ok(Answer { head: lines.into_bytes(), job: None })
}
