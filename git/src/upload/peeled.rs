//! What annotated tags tag, for the lists of refs.

use std::sync::atomic::{AtomicBool, Ordering};

use gix_hash::ObjectId;

use super::{Error, negotiate, store::Store, view::View};

/// Peels tags. The store is opened when the first one is asked for.
pub(super) struct Peeler<'a> {
    view: &'a View,
    store: Option<Store>,
    cancel: &'a AtomicBool,
}

impl<'a> Peeler<'a> {
    pub fn new(view: &'a View, cancel: &'a AtomicBool) -> Self {
        Self { view, store: None, cancel }
    }

    /// What the object tags in the end; `None` if it is no tag, or cannot be read: a list of refs
    /// does not fail for one of them.
    pub fn peel(&mut self, id: &ObjectId) -> Result<Option<ObjectId>, Error> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let store = match &mut self.store {
            Some(store) => store,
            None => self.store.insert(Store::open(&self.view.objects, self.view.hash)?),
        };
        let Some(place) = store.place(id) else {
            return Ok(None);
        };
        Ok(match negotiate::peel(store, place) {
            Ok((target, _)) if target != place => Some(store.id(target)),
            _ => None,
        })
    }
}
