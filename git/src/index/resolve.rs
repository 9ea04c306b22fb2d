//! The second pass: every delta is applied once, hashed, and shown to the visitor.
//!
//! Threads take the trees of the [forest](super::forest) one after the other. What a thread holds
//! is bounded: objects larger than a share of [`MEMORY`], and trees that branch so that too much
//! would have to be held, are put off. They are made afterwards by one thread alone, which keeps
//! what is large [on the disk](super::spill).

use std::{
    fs::File,
    ops::Range,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use gix_hash::{Hasher, ObjectId, oid};

use super::{
    Error, Target, Visit, delta,
    entry::{Entries, Found, Layout, RefDelta, Resolved, kind_of},
    forest::Forest,
    scan::{finalize, object_id, update_header},
    source::Source,
    spill::{self, Base, Out, Pages},
};
use crate::firewall::{BLOB, Limits, STRUCTURE_BYTES, Violation};

/// What all threads together hold of objects and deltas.
const MEMORY: usize = 20 << 20;

/// What the thread holds that makes large objects, beside pages of 8 MiB and one tree.
const MEMORY_ALONE: usize = 8 << 20;

/// More threads would leave each of them too little.
const MAX_THREADS: usize = 16;

/// For fewer deltas than this no thread is started.
const WORTH_A_THREAD: usize = 256;

/// Bases on the disk at once. The order of the forest needs 32 at most; more can only be had by
/// deltas that name their bases by id, nested as no git does.
const MAX_SPILLED: usize = 40;

/// Results are entered together, so that threads seldom wait for each other.
const BATCH: usize = 512;

/// What is to be resolved, and with what.
pub(super) struct Job<'a> {
    pub file: &'a File,
    /// Large objects may be kept beside the pack meanwhile.
    pub target: &'a Target<'a>,
    /// The fewer there are, the larger is what each of them can hold.
    pub threads: usize,
    /// Nothing is put off, and there is one thread.
    pub alone: bool,
}

/// How many threads to begin with. The system is asked once: it reads several files for the
/// answer, which a small push would notice.
pub(super) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS))
}

/// Why something was put off.
#[derive(Debug, Clone, Copy)]
pub(super) struct PutOff {
    /// It is large.
    pub large: bool,
    /// There was no room for it beside what was held already.
    pub crowded: bool,
}

/// Resolves what stands on the objects that are known, and says whether something was put off.
pub(super) fn run<V: Visit>(
    job: &Job<'_>,
    entries: &mut Entries,
    forest: &Forest,
    visitor: &V,
) -> Result<PutOff, Error> {
    let alone = job.alone;
    let threads = if alone || forest.deltas() < WORTH_A_THREAD { 1 } else { job.threads.max(1) };
    let shared = Shared {
        job,
        layout: &entries.layout,
        refs: &entries.refs,
        claimed: entries.refs.iter().map(|_| AtomicBool::new(false)).collect(),
        forest,
        found: Mutex::new(&mut entries.found),
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        large: AtomicBool::new(false),
        crowded: AtomicBool::new(false),
        alone,
        share: if alone { MEMORY_ALONE } else { MEMORY / threads },
    };
    if threads == 1 {
        Worker::new(&shared, visitor.clone()).run()?;
    } else {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|_| {
                    let worker = Worker::new(&shared, visitor.clone());
                    scope.spawn(move || worker.run())
                })
                .collect();
            // All are waited for. When one failed, the others were interrupted.
            let mut outcome = Ok(());
            for worker in workers {
                let ended = worker.join().unwrap_or_else(|panic| Err(Error::panic(&*panic)));
                if matches!(outcome, Ok(()) | Err(Error::Interrupted)) {
                    outcome = if ended.is_err() { ended } else { outcome };
                }
            }
            outcome
        })?;
    }
    Ok(PutOff {
        large: shared.large.load(Ordering::Relaxed),
        crowded: shared.crowded.load(Ordering::Relaxed),
    })
}

struct Shared<'a> {
    job: &'a Job<'a>,
    layout: &'a Layout,
    /// Deltas whose bases were unknown when this began, and whether somebody has taken those of one
    /// base; counts for the first delta of each.
    refs: &'a [RefDelta],
    claimed: Vec<AtomicBool>,
    forest: &'a Forest,
    found: Mutex<&'a mut Found>,
    /// The next root to be taken.
    next: AtomicUsize,
    /// A thread has failed, and the others need not go on.
    stop: AtomicBool,
    /// As in [`PutOff`].
    large: AtomicBool,
    crowded: AtomicBool,
    alone: bool,
    /// Of the memory, for each thread.
    share: usize,
}

/// An object, and what of its children is still to be done.
struct Frame<'a> {
    entry: u32,
    base: Base,
    chain: Chain,
    children: &'a [u32],
    refs: Range<usize>,
}

/// The deltas between an object and the one that is none.
#[derive(Clone, Copy, Default)]
struct Chain {
    depth: u16,
    bytes: u64,
}

impl Chain {
    /// With a further delta of `bytes`, if the limits allow it.
    fn and(self, bytes: u64, limits: &Limits) -> Result<Self, Violation> {
        let depth = self.depth.saturating_add(1);
        if depth > limits.delta_depth {
            return Err(Violation::DeltaDepth(limits.delta_depth));
        }
        let bytes = self.bytes.saturating_add(bytes);
        if bytes > limits.delta_bytes() {
            return Err(Violation::DeltaBytes(limits.delta_bytes()));
        }
        Ok(Self { depth, bytes })
    }
}

impl Frame<'_> {
    /// What it takes of the memory.
    fn memory(&self) -> usize {
        self.base.memory() + size_of::<Self>()
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.refs.is_empty()
    }
}

struct Worker<'a, V> {
    shared: &'a Shared<'a>,
    source: Source<'a>,
    visitor: V,
    /// From the root to the object whose children are being made, without those that are not
    /// needed any more.
    stack: Vec<Frame<'a>>,
    /// Memory that the stack takes.
    held: usize,
    delta: Vec<u8>,
    spare: Vec<u8>,
    /// Of the object on top of the stack, if it is on the disk.
    pages: Pages,
    kind: u8,
    batch: Vec<Resolved>,
}

/// A delta that was applied.
struct Made {
    /// `None` if it was too large to be kept and nothing stands on it.
    base: Option<Base>,
    /// Of a large one, which was hashed on the way.
    hasher: Option<Hasher>,
}

impl<'a, V: Visit> Worker<'a, V> {
    fn new(shared: &'a Shared<'a>, visitor: V) -> Self {
        Self {
            shared,
            source: Source::new(shared.job.file, shared.layout),
            visitor,
            stack: Vec::new(),
            held: 0,
            delta: Vec::new(),
            spare: Vec::new(),
            pages: Pages::default(),
            kind: 0,
            batch: Vec::with_capacity(BATCH),
        }
    }

    fn run(mut self) -> Result<(), Error> {
        let result = self.trees();
        if result.is_err() {
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        self.enter();
        result
    }

    fn trees(&mut self) -> Result<(), Error> {
        let shared = self.shared;
        while let Some(root) = shared.forest.roots.get(shared.next.fetch_add(1, Ordering::Relaxed))
        {
            self.tree(*root)?;
        }
        Ok(())
    }

    fn tree(&mut self, root: u32) -> Result<(), Error> {
        let size = self.shared.layout.size(root);
        let kind = lock(&self.shared.found).kinds.get(root as usize).copied();
        self.kind = kind.unwrap_or_default();
        let base = if size <= self.shared.largest() as u64 {
            let mut content = std::mem::take(&mut self.spare);
            self.source.inflate(root, &mut content)?;
            content.truncate(size as usize);
            Base::Memory(content)
        } else if self.shared.alone {
            let out = Out::disk(self.shared.job.target.packs, size, None)?;
            match spill::copy(self.source.stream(root), out)? {
                Some(base) => base,
                None => return Ok(()),
            }
        } else {
            self.shared.large.store(true, Ordering::Relaxed);
            return Ok(());
        };
        let base = self.fit(base);
        self.hold(Frame {
            entry: root,
            base,
            chain: Chain::default(),
            children: self.shared.forest.children(root),
            refs: 0..0,
        })?;
        while !self.stack.is_empty() {
            if self.shared.stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            self.shared.job.target.go_on()?;
            self.step()?;
        }
        Ok(())
    }

    /// Makes the next child of the object on top of the stack.
    fn step(&mut self) -> Result<(), Error> {
        let shared = self.shared;
        let Some(frame) = self.stack.last_mut() else { return Ok(()) };
        let (base, chain) = (frame.entry, frame.chain);
        let child = if let Some((child, rest)) = frame.children.split_first() {
            frame.children = rest;
            Some(*child)
        } else {
            frame.refs.next().and_then(|at| shared.refs.get(at)).map(|delta| delta.entry)
        };
        let Some(child) = child else {
            self.release();
            return Ok(());
        };
        let limits = shared.job.target.limits;
        let chain = chain.and(shared.layout.size(child), limits).map_err(Error::Violation)?;
        let Some(made) = self.make(child)? else {
            self.shared.large.store(true, Ordering::Relaxed);
            return Ok(());
        };
        if self.stack.last().is_some_and(Frame::is_empty) {
            self.release();
        }
        let mut refs = 0..0;
        if !shared.forest.is_done(child) {
            let id = self.identify(&made)?;
            if !shared.refs.is_empty() {
                refs = shared.claim(&id);
            }
            self.batch.push(Resolved { entry: child, base, kind: self.kind, id });
            if self.batch.len() >= BATCH {
                self.enter();
            }
        }
        let children = shared.forest.children(child);
        match made.base {
            Some(base) if !children.is_empty() || !refs.is_empty() => {
                let base = self.fit(base);
                self.hold(Frame { entry: child, base, chain, children, refs })
            }
            Some(Base::Memory(content)) => {
                self.reuse(content);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Applies a delta to the object on top of the stack. `None` if it has to be put off.
    fn make(&mut self, child: u32) -> Result<Option<Made>, Error> {
        let largest = self.shared.largest() as u64;
        let Some(frame) = self.stack.last() else { return Ok(None) };
        if self.shared.layout.size(child) > largest {
            if !self.shared.alone {
                return Ok(None);
            }
            let mut delta = self.source.stream(child);
            let (base, result) = spill::header(&mut delta)?;
            if base != frame.base.len() {
                return Err(delta::Broken.into());
            }
            let out = self.shared.out(self.kind, child, result)?;
            let pages = self.pages.of(frame.entry);
            let (base, hasher) =
                spill::apply(&frame.base, pages, delta, out, self.shared.job.target)?;
            return Ok(Some(Made { base, hasher }));
        }
        let delta = self.source.inflate(child, &mut self.delta)?;
        let (base, result, instructions) = delta::header(delta)?;
        if base != frame.base.len() {
            return Err(delta::Broken.into());
        }
        match &frame.base {
            Base::Memory(base) if result <= largest => {
                let mut content = std::mem::take(&mut self.spare);
                delta::apply(base, instructions, result as usize, &mut content)?;
                Ok(Some(Made { base: Some(Base::Memory(content)), hasher: None }))
            }
            _ if !self.shared.alone => Ok(None),
            base => {
                let out = self.shared.out(self.kind, child, result)?;
                let pages = self.pages.of(frame.entry);
                let (base, hasher) =
                    spill::apply(base, pages, instructions, out, self.shared.job.target)?;
                Ok(Some(Made { base, hasher }))
            }
        }
    }

    /// The id of a new object, which the visitor sees as well.
    fn identify(&mut self, made: &Made) -> Result<ObjectId, Error> {
        let content = match (&made.hasher, &made.base) {
            (Some(hasher), _) => return finalize(hasher.clone()),
            (None, Some(Base::Memory(content))) => content,
            (None, _) => return Err(delta::Broken.into()),
        };
        let id = object_id(self.shared.job.target.hash, self.kind, content)?;
        if self.kind != BLOB
            && let Some(kind) = kind_of(self.kind)
        {
            self.visitor.visit(kind, content, &id);
        }
        Ok(id)
    }

    /// Keeps an object until its children are made.
    fn hold(&mut self, mut frame: Frame<'a>) -> Result<(), Error> {
        let room = self.shared.share / 2;
        if self.held + frame.memory() > room && !self.stack.is_empty() {
            if !self.shared.alone {
                self.shared.crowded.store(true, Ordering::Relaxed);
                return Ok(());
            }
            frame.base = frame.base.into_disk(self.shared.job.target.packs)?;
        }
        let spilled = |frame: &&Frame<'_>| matches!(frame.base, Base::Disk(..));
        if spilled(&&frame) && self.stack.iter().filter(spilled).count() >= MAX_SPILLED {
            return Err(Error::Pack("the deltas of large objects are nested too deep".into()));
        }
        self.held += frame.memory();
        self.stack.push(frame);
        Ok(())
    }

    /// Lets go of the object on top of the stack.
    fn release(&mut self) {
        if let Some(frame) = self.stack.pop() {
            self.held -= frame.memory();
            if let Base::Memory(content) = frame.base {
                self.reuse(content);
            }
        }
    }

    /// A small object in a large buffer would waste what may be held.
    fn fit(&mut self, base: Base) -> Base {
        match base {
            Base::Memory(content) if content.capacity() / 2 > content.len() => {
                let fitting = content.as_slice().to_vec();
                self.reuse(content);
                Base::Memory(fitting)
            }
            fitting => fitting,
        }
    }

    /// Keeps the larger of two buffers for the next object.
    fn reuse(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() > self.spare.capacity() && buffer.capacity() <= self.shared.largest() {
            self.spare = buffer;
        }
    }

    fn enter(&mut self) {
        let mut found = lock(&self.shared.found);
        for resolved in self.batch.drain(..) {
            found.resolved(&resolved);
        }
    }
}

impl Shared<'_> {
    /// The largest object that is made in memory. The stack has half of the share, a delta and its
    /// result a quarter each.
    fn largest(&self) -> usize {
        self.share / 4
    }

    /// Where a large object goes. What the visitor wants has to be in memory.
    fn out(&self, kind: u8, entry: u32, size: u64) -> Result<Out, Error> {
        let visited = kind != BLOB;
        if visited && size > STRUCTURE_BYTES {
            let limit = STRUCTURE_BYTES;
            return Err(Error::Violation(Violation::StructureBytes { found: size, limit }));
        }
        if visited || size <= self.largest() as u64 {
            return Ok(Out::memory(size as usize, None));
        }
        let mut hasher = gix_hash::hasher(self.job.target.hash);
        update_header(&mut hasher, kind, size);
        let hasher = (!self.forest.is_done(entry)).then_some(hasher);
        if self.forest.children(entry).is_empty() && self.refs.is_empty() {
            return Ok(Out::nowhere(size, hasher));
        }
        Ok(Out::disk(self.job.target.packs, size, hasher)?)
    }

    /// The deltas on an object that were waiting for its id, for whoever asks first.
    fn claim(&self, id: &oid) -> Range<usize> {
        let start = self.refs.partition_point(|delta| delta.base.as_ref() < id);
        let waiting = self.refs.get(start..).unwrap_or_default();
        let count = waiting.iter().take_while(|delta| delta.base.as_ref() == id).count();
        let claimed = |flag: &AtomicBool| flag.swap(true, Ordering::Relaxed);
        if count == 0 || self.claimed.get(start).is_none_or(claimed) {
            return 0..0;
        }
        start..start + count
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
