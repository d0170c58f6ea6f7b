//! Traces played through the order of pages, and through others beside it: how many touches miss.

use crate::page::chunk::{Chunks, Entry};
use crate::page::fifo::Fifo;
use crate::page::id::{PageId, PageOwnerId};
use crate::page::owner_heap::{HeapNode, Nodes, OwnerHeap};
use crate::page::s3fifo::{MOST_USE, QUEUES, Queue, Resident, Verdict, arrival};
use crate::page::workingset::{Base, EvictionClock, Generation, Shadow};
use crate::sync::id::Id;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// Something that holds up to so many pages.
pub trait PageCache {
    /// A page is touched; whether it was there.
    fn touch(&mut self, page: u32) -> bool;
}

/// How many touches of a trace miss.
pub fn misses(cache: &mut impl PageCache, trace: &[u32]) -> u64 {
    trace
        .iter()
        .map(|&page| u64::from(!cache.touch(page)))
        .sum()
}

/// A page of [`Ordered`].
#[derive(Clone, Copy, Default)]
struct Page {
    /// The queue it is in, if it is resident.
    queue: Option<Queue>,
    freq: u8,
    seq: u32,
    shadow: Option<Shadow>,
}

#[derive(Default)]
struct Owner {
    fifos: [Fifo; 2],
    nodes: [HeapNode; 2],
}

/// The nodes of one queue.
struct Of<'a>(&'a [Owner], Queue);

impl Nodes for Of<'_> {
    fn node(&self, owner: PageOwnerId) -> &HeapNode {
        &self.0[owner.raw() as usize - 1].nodes[self.1 as usize]
    }
}

/// The order as the engine has it: one class of one group, its pages spread over owners by hash.
pub struct Ordered {
    chunks: Chunks,
    owners: Vec<Owner>,
    heaps: [OwnerHeap; 2],
    pages: Vec<Page>,
    clock: EvictionClock,
    resident: Resident,
    room: u64,
    /// Pages that came back soon enough to be taken for active.
    pub activated: u64,
}

impl Ordered {
    /// With room for `room` of `pages` pages.
    #[must_use]
    pub fn new(pages: u32, room: u64, owners: usize) -> Self {
        Self {
            chunks: Chunks::default(),
            owners: (0..owners).map(|_| Owner::default()).collect(),
            heaps: Default::default(),
            pages: vec![Page::default(); pages as usize],
            clock: EvictionClock::default(),
            resident: Resident::default(),
            room,
            activated: 0,
        }
    }

    fn owner_of(&self, page: u32) -> PageOwnerId {
        let hash = u64::from(page).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        PageOwnerId::new((hash % self.owners.len() as u64) as u32 + 1)
    }

    fn put(&mut self, page: u32, queue: Queue) {
        let owner = self.owner_of(page);
        let record = &mut self.pages[page as usize];
        record.queue = Some(queue);
        record.seq += 1;
        let entry = Entry {
            page: PageId::new(page + 1),
            seq: record.seq,
        };
        let fifo = &self.owners[owner.raw() as usize - 1].fifos[queue as usize];
        let was_empty = fifo.is_empty();
        fifo.push(&self.chunks, entry).unwrap();
        if was_empty {
            self.order(owner, queue);
        }
        match queue {
            Queue::Small => self.resident.small += 1,
            Queue::Main => self.resident.main += 1,
        }
    }

    /// Gives an owner its place in the heap of a queue.
    fn order(&self, owner: PageOwnerId, queue: Queue) {
        let fifo = &self.owners[owner.raw() as usize - 1].fifos[queue as usize];
        let key = fifo.head_stamp();
        self.heaps[queue as usize].set_key(&Of(&self.owners, queue), owner, key);
    }

    fn evict(&mut self) {
        while let Some(queue) = self.resident.next_queue() {
            let owner = self.heaps[queue as usize].first().unwrap();
            let fifo = &self.owners[owner.raw() as usize - 1].fifos[queue as usize];
            let stamp = fifo.head_stamp();
            let pages = &self.pages;
            let live = |entry: Entry| pages[entry.page.raw() as usize - 1].seq == entry.seq;
            let entry = fifo.pop_live(&self.chunks, u32::MAX, live).0.unwrap();
            if fifo.head_stamp() != stamp {
                self.order(owner, queue);
            }
            match queue {
                Queue::Small => self.resident.small -= 1,
                Queue::Main => self.resident.main -= 1,
            }
            let page = entry.page.raw() - 1;
            let record = &mut self.pages[page as usize];
            match queue.verdict(record.freq) {
                Verdict::Promote => {
                    record.freq = 0;
                    self.put(page, Queue::Main);
                }
                Verdict::Again { freq } => {
                    record.freq = freq;
                    self.put(page, Queue::Main);
                }
                Verdict::Evict => {
                    let now = if queue.moves_clock() {
                        self.clock.evict()
                    } else {
                        self.clock.now()
                    };
                    let generation = Generation::of(0);
                    let was_main = queue.is_workingset();
                    let shadow = Shadow::new(now, Base::default(), generation, was_main);
                    record.shadow = Some(shadow);
                    record.queue = None;
                    return;
                }
            }
        }
    }

    /// Every page that is resident has one entry that is not stale, and the counts are right.
    pub fn audit(&self) {
        let counted = QUEUES.map(|queue| {
            let in_it = |page: &&Page| page.queue == Some(queue);
            self.pages.iter().filter(in_it).count() as u64
        });
        assert_eq!(counted, [self.resident.small, self.resident.main]);
        let entries = QUEUES.map(|queue| {
            let len = |owner: &Owner| u64::from(owner.fifos[queue as usize].len());
            self.owners.iter().map(len).sum::<u64>()
        });
        assert_eq!(counted, entries);
    }
}

impl PageCache for Ordered {
    fn touch(&mut self, page: u32) -> bool {
        let record = &mut self.pages[page as usize];
        if record.queue.is_some() {
            record.freq = (record.freq + 1).min(MOST_USE);
            return true;
        }
        if self.resident.total() >= self.room {
            self.evict();
        }
        let record = &mut self.pages[page as usize];
        let (now, generation) = (self.clock.now(), Generation::of(0));
        let refault = |shadow: Shadow| shadow.refault(now, Base::default(), generation);
        let resident = Resident {
            main: self.resident.main + 1,
            ..self.resident
        };
        let arrival = arrival(record.shadow.take().and_then(refault), resident);
        record.freq = 0;
        self.activated += u64::from(arrival.activate);
        self.put(page, arrival.queue);
        false
    }
}

/// S3-FIFO as it was published, with a queue of ghosts.
pub struct Published {
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    freq: HashMap<u32, u8>,
    ghosts: VecDeque<(u32, u64)>,
    ghost: HashMap<u32, u64>,
    turn: u64,
    room: usize,
    enough: u8,
}

impl Published {
    /// With room for `room` pages; `enough` uses make a page leave small for main.
    #[must_use]
    pub fn new(room: u64, enough: u8) -> Self {
        Self {
            small: VecDeque::new(),
            main: VecDeque::new(),
            freq: HashMap::new(),
            ghosts: VecDeque::new(),
            ghost: HashMap::new(),
            turn: 0,
            room: room as usize,
            enough,
        }
    }

    fn evict(&mut self) {
        loop {
            let from_small = self.main.is_empty() || self.small.len() >= self.room / 10;
            if from_small && let Some(page) = self.small.pop_front() {
                if self.freq[&page] >= self.enough {
                    self.freq.insert(page, 0);
                    self.main.push_back(page);
                    continue;
                }
                self.freq.remove(&page);
                self.turn += 1;
                self.ghosts.push_back((page, self.turn));
                self.ghost.insert(page, self.turn);
                if self.ghosts.len() > self.room - self.room / 10
                    && let Some((old, turn)) = self.ghosts.pop_front()
                    && self.ghost.get(&old) == Some(&turn)
                {
                    self.ghost.remove(&old);
                }
                return;
            }
            let Some(page) = self.main.pop_front() else {
                return;
            };
            match self.freq[&page] {
                0 => {
                    self.freq.remove(&page);
                    return;
                }
                freq => {
                    self.freq.insert(page, freq - 1);
                    self.main.push_back(page);
                }
            }
        }
    }
}

impl PageCache for Published {
    fn touch(&mut self, page: u32) -> bool {
        if let Some(freq) = self.freq.get_mut(&page) {
            *freq = (*freq + 1).min(3);
            return true;
        }
        if self.freq.len() >= self.room {
            self.evict();
        }
        self.freq.insert(page, 0);
        match self.ghost.remove(&page) {
            Some(_) => self.main.push_back(page),
            None => self.small.push_back(page),
        }
        false
    }
}

/// The page that was not used for longest goes.
pub struct Lru {
    used: HashMap<u32, u64>,
    order: BTreeMap<u64, u32>,
    now: u64,
    room: usize,
}

impl Lru {
    /// With room for `room` pages.
    #[must_use]
    pub fn new(room: u64) -> Self {
        Self {
            used: HashMap::new(),
            order: BTreeMap::new(),
            now: 0,
            room: room as usize,
        }
    }
}

impl PageCache for Lru {
    fn touch(&mut self, page: u32) -> bool {
        self.now += 1;
        let before = self.used.insert(page, self.now);
        self.order.insert(self.now, page);
        if let Some(before) = before {
            self.order.remove(&before);
            return true;
        }
        if self.used.len() > self.room
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.used.remove(&oldest);
        }
        false
    }
}

/// Pages that a trace touches.
#[must_use]
pub fn footprint(trace: &[u32]) -> u64 {
    trace.iter().collect::<HashSet<_>>().len() as u64
}
