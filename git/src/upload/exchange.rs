//! The steps of a fetch that both versions of the protocol have in common. Blocking.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use gix_hash::ObjectId;
use gix_object::Kind;

use super::{
    Error,
    count::Goal,
    filter::Filter,
    graph::{Commit, Graph, mark},
    negotiate, policy,
    request::{Bands, Fetch},
    shallow,
    store::Store,
    view::View,
};

/// A request whose wants were allowed.
pub(super) struct Exchange<'a> {
    view: &'a View,
    request: &'a Fetch,
    cancel: Arc<AtomicBool>,
    store: Store,
    graph: Graph,
    goal: Goal,
    client_shallow: Vec<Commit>,
    /// The last of the client's haves that is here.
    last_common: Option<ObjectId>,
}

/// Everything that is needed to make the pack.
pub(super) struct PackJob {
    pub store: Store,
    pub graph: Graph,
    pub goal: Goal,
    pub filter: Filter,
    pub thin: bool,
    pub ofs_delta: bool,
    pub bands: Bands,
    pub progress: bool,
    pub cancel: Arc<AtomicBool>,
}

impl<'a> Exchange<'a> {
    /// Checks the wants and reads the client's side.
    pub fn open(
        view: &'a View,
        request: &'a Fetch,
        cancel: &Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        let mut store = Store::open(&view.objects, view.hash)?;
        let allowed = view.policy.wants;
        let (tips, shallow) = (view.tips(), &view.shallow);
        let refused = policy::refused(&mut store, shallow, &tips, &request.wants, allowed, cancel)?;
        if let Some(id) = request
            .wants
            .iter()
            .find(|want| refused.contains(*want) && !view.hidden_tips.contains(*want))
        {
            return Err(Error::Protocol(format!("upload-pack: not our ref {id}")));
        }
        let mut graph = Graph::new(view.shallow.iter().copied());
        let mut goal = Goal::default();
        let mut seen = HashSet::new();
        let go_on = || if cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) };
        for want in request.wants.iter().filter(|want| seen.insert(**want)) {
            go_on()?;
            goal.want(&mut graph, &mut store, want)?;
        }
        for name in &request.want_refs {
            go_on()?;
            let id = view
                .wanted(name)
                .ok_or_else(|| Error::Protocol(format!("unknown ref {}", one_line(name))))?;
            if seen.insert(id) {
                goal.want(&mut graph, &mut store, &id)?;
            }
        }
        let mut client_shallow = Vec::new();
        for id in &request.shallow {
            go_on()?;
            // What is shallow there and unknown here does not matter here.
            if let Some(commit) = graph.find(&mut store, id)? {
                graph.set(commit, mark::CLIENT_SHALLOW | mark::CUT);
                client_shallow.push(commit);
            }
        }
        let cancel = cancel.clone();
        Ok(Self { view, request, cancel, store, graph, goal, client_shallow, last_common: None })
    }

    /// For each have of the client whether it is here.
    pub fn negotiate(&mut self) -> Result<Vec<bool>, Error> {
        let haves = &self.request.haves;
        let (known, commits) =
            negotiate::common(&mut self.graph, &mut self.store, haves, &self.cancel)?;
        let last = haves.iter().zip(&known).rfind(|(_, known)| **known);
        self.last_common = last.map(|(have, _)| *have);
        self.goal.haves = commits;
        Ok(known)
    }

    /// The last have that is here.
    pub fn last_common(&self) -> Option<ObjectId> {
        self.last_common
    }

    /// Whether more haves would change little.
    pub fn enough(&mut self) -> Result<bool, Error> {
        if self.last_common.is_none() {
            return Ok(false);
        }
        let Goal { commits, haves, .. } = &self.goal;
        negotiate::enough(&mut self.graph, &mut self.store, commits, haves, &self.cancel)
    }

    /// Whether the client has to hear where its history ends.
    pub fn shallow_matters(&self) -> bool {
        self.request.depth.is_given() || !self.request.shallow.is_empty() || self.graph.is_shallow()
    }

    /// Decides where the client's history ends. Without a wish for a depth, only the ends of this
    /// repository matter.
    pub fn shallow(&mut self) -> Result<shallow::Change, Error> {
        let depth = &self.request.depth;
        if !depth.is_given() && !self.graph.is_shallow() {
            return Ok(shallow::Change::default());
        }
        let mut not = Vec::new();
        for name in &depth.not {
            let unknown =
                || Error::Protocol(format!("deepen-not is not a ref: {}", one_line(name)));
            let id = self.view.guess(name).ok_or_else(unknown)?;
            let place = self.store.place(&id).ok_or(Error::Missing(id))?;
            if let (place, Kind::Commit) = negotiate::peel(&mut self.store, place)? {
                not.push(self.graph.at(place, self.store.hash()));
            }
        }
        let change = shallow::change(
            &mut self.graph,
            &mut self.store,
            &self.goal.commits,
            &self.client_shallow,
            depth,
            &not,
            &self.cancel,
        )?;
        self.goal.commits.extend(&change.more_wants);
        self.goal.haves.extend(&change.edges);
        Ok(change)
    }

    /// The rest is done while the answer is on its way.
    pub fn into_job(mut self) -> PackJob {
        if self.request.include_tag {
            self.goal.tags = self
                .view
                .refs
                .iter()
                .filter(|reference| reference.name.starts_with("refs/tags/"))
                .map(|reference| reference.id)
                .collect();
        }
        PackJob {
            store: self.store,
            graph: self.graph,
            goal: self.goal,
            filter: self.request.filter.clone(),
            thin: self.request.thin,
            ofs_delta: self.request.ofs_delta,
            bands: self.request.bands,
            progress: !self.request.no_progress && self.request.bands != Bands::None,
            cancel: self.cancel,
        }
    }
}

fn one_line(name: &str) -> String {
    super::request::printable(name)
}
