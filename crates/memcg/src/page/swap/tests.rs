//! Swap against a model that remembers what each slot holds, on real files that err.
//!
//! Invariants: a file of a test is gone when it ends.
//! Depends on: the folder for temporary files; `os::fault`.
//! Never: a file that another test uses.

mod faults;

use super::*;
use crate::os::Fault;
use crate::os::errno::Errno;
use crate::os::fault::{self, IoPlan, Plan};
use crate::os::file;
use crate::page::PAGE;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::atomic::AtomicU32 as Count;

struct Path(PathBuf);

impl Path {
    fn new() -> Self {
        Self::below(std::env::temp_dir())
    }

    fn below(folder: PathBuf) -> Self {
        static NEXT: Count = Count::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("memcg-swap-{}-{n}", std::process::id());
        Self(folder.join(name))
    }

    fn c(&self) -> CString {
        CString::new(self.0.to_str().unwrap()).unwrap()
    }

    fn len(&self) -> u64 {
        std::fs::metadata(&self.0).unwrap().len()
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn page_of(seed: u64) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    for (at, word) in page.as_chunks_mut().0.iter_mut().enumerate() {
        *word = (seed << 20 | at as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .to_le_bytes();
    }
    page
}

/// Swap with one device of so many slots.
fn swap_of(path: &Path, slots: u64) -> (Swap, SwapDeviceId) {
    let swap = Swap::default();
    let id = swap.on(&path.c(), slots * PAGE as u64, Checksums::Always);
    (swap, id.unwrap())
}

/// What each used slot holds: the seed of its page.
type Model = BTreeMap<SlotId, u64>;

fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    *state >> 33
}

/// Random allocations, writes, reads and frees; what the model says is read. Under a plan of
/// faults a read may fail, and what a write does not call safe is freed.
fn live(swap: &Swap, model: &mut Model, steps: usize, state: &mut u64, most: u32) {
    let total = swap.usage().total;
    let mut cursor = Cursor::default();
    let mut seed = 1000;
    for _ in 0..steps {
        let any = random(state) as usize % model.len().max(1);
        let any = model.keys().nth(any).copied();
        match (random(state) % 4, any) {
            (0 | 1, _) => {
                let n = random(state) as u32 % most + 1;
                let Some(run) = swap.alloc(&mut cursor, n) else {
                    assert_eq!(model.len() as u32, total);
                    continue;
                };
                seed += 64;
                let written = swap.write(run, |at, page| *page = page_of(seed + u64::from(at)));
                for at in 0..run.len() {
                    if written.is_safe(at) {
                        let old = model.insert(run.slot(at), seed + u64::from(at));
                        assert_eq!(old, None, "given twice");
                    } else {
                        assert!(written.error.is_some());
                        assert!(swap.free(run.slot(at)));
                    }
                }
                assert!(!written.is_safe(run.len()));
            }
            (2, Some(slot)) => {
                // What lies together with it, in its cluster.
                let mut len = 1;
                while (slot.raw() + len) % CLUSTER != 0
                    && model.contains_key(&SlotId::new(slot.raw() + len))
                {
                    len += 1;
                }
                let run = Run::new(slot, len);
                let mut told = 0;
                let read = swap.read_run(run, |at, page| {
                    assert_eq!(at, told);
                    told += 1;
                    if let Ok(page) = page {
                        assert!(*page == page_of(model[&run.slot(at)]));
                    }
                });
                assert!(read.is_ok() && told == len);
            }
            (_, Some(slot)) => {
                for _ in 0..random(state) % 40 {
                    let next = model.range(slot..).next();
                    let Some((&slot, &seed)) = next else { break };
                    let mut page = [0; PAGE];
                    if swap.read(slot, &mut page).is_ok() {
                        assert!(page == page_of(seed));
                    }
                    assert!(swap.free(slot));
                    assert!(!swap.free(slot));
                    model.remove(&slot);
                }
            }
            (_, None) => {}
        }
        assert_eq!(
            swap.usage(),
            Usage {
                used: model.len() as u32,
                total
            }
        );
    }
}

fn check_all(swap: &Swap, model: &Model) {
    let mut page = [0; PAGE];
    for (&slot, &seed) in model {
        assert_eq!(swap.read(slot, &mut page), Ok(()));
        assert!(page == page_of(seed), "{slot:?}");
    }
}

#[test]
fn slots_hold_what_was_written_through_random_histories() {
    let paths = [Path::new(), Path::new()];
    let (swap, _) = swap_of(&paths[0], 200);
    swap.on(&paths[1].c(), 130 * PAGE as u64, Checksums::Debug)
        .unwrap();
    let (mut model, mut state) = (Model::new(), 7);
    live(&swap, &mut model, 400, &mut state, 64);
    check_all(&swap, &model);
    assert!(model.len() > 10);
}

/// As on tmpfs, which says of no direct I/O.
#[test]
fn a_file_without_direct_io_holds_what_was_written() {
    let folder = PathBuf::from("/dev/shm");
    if !folder.is_dir() {
        return;
    }
    let path = Path::below(folder);
    let (swap, _) = swap_of(&path, 600);
    let (mut model, mut state) = (Model::new(), 3);
    live(&swap, &mut model, 200, &mut state, 64);
    check_all(&swap, &model);
}

#[test]
fn what_is_full_gives_no_slot_until_one_is_freed() {
    let path = Path::new();
    let (swap, id) = swap_of(&path, 70);
    let mut cursor = Cursor::default();
    let lens: Vec<u32> = std::iter::from_fn(|| swap.alloc(&mut cursor, 64).map(Run::len)).collect();
    assert_eq!(lens, [64, 6]);
    assert!(swap.free(SlotId::new(64 + 17)));
    assert_eq!(
        swap.alloc(&mut cursor, 5),
        Some(Run::new(SlotId::new(64 + 17), 1))
    );
    assert_eq!(
        swap.usage_of(id),
        Some(Usage {
            used: 70,
            total: 70
        })
    );
    assert_eq!(path.len(), 70 * PAGE as u64);
}

/// One who allocates goes on in his cluster; another gets a cluster of his own.
#[test]
fn what_is_allocated_by_one_lies_together() {
    let path = Path::new();
    let (swap, _) = swap_of(&path, 256);
    let mut cursors = [Cursor::default(), Cursor::default()];
    for round in 0..8 {
        for (who, cursor) in (0..).zip(&mut cursors) {
            let run = swap.alloc(cursor, 8).unwrap();
            assert_eq!(run.slot(0).raw(), 64 + who * 64 + round * 8);
        }
    }
}

#[test]
fn a_file_that_vanishes_goes_on_and_one_that_is_cut_answers_eio() {
    let path = Path::new();
    let (swap, _) = swap_of(&path, 128);
    let mut cursor = Cursor::default();
    let runs = [0, 1].map(|_| swap.alloc(&mut cursor, 64).unwrap());
    for run in runs {
        swap.write(run, |_, page| *page = page_of(run.slot(0).raw().into()));
    }
    let other = std::fs::OpenOptions::new()
        .write(true)
        .open(&path.0)
        .unwrap();
    std::fs::remove_file(&path.0).unwrap();
    other.set_len(70 * PAGE as u64 + 100).unwrap();
    let mut page = [0; PAGE];
    assert_eq!(swap.read(runs[0].slot(63), &mut page), Ok(()));
    assert_eq!(swap.read(runs[1].slot(5), &mut page), Ok(()));
    assert!(page == page_of(128));
    // The part of a page that is left is no page.
    assert_eq!(swap.read(runs[1].slot(6), &mut page), Err(Errno::EIO));
    let mut good = 0;
    swap.read_run(runs[1], |at, page| {
        assert_eq!(page.is_ok(), at < 6);
        good += u32::from(page.is_ok());
    })
    .unwrap();
    assert_eq!(good, 6);
    assert_eq!(swap.write(runs[1], |_, page| page.fill(9)).safe, u64::MAX);
    assert_eq!(swap.read(runs[1].slot(63), &mut page), Ok(()));
}

#[test]
fn other_bytes_old_bytes_and_another_slot_s_are_eio() {
    use std::os::unix::fs::FileExt;
    let path = Path::new();
    let (swap, _) = swap_of(&path, 64);
    let run = swap.alloc(&mut Cursor::default(), 64).unwrap();
    swap.write(run, |_, page| *page = page_of(1));
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&path.0)
        .unwrap();
    file.write_all_at(b"!", 5 * PAGE as u64 + 77).unwrap();
    // A device that drops a write: what was there before is read.
    let device = swap.devices[0].enter().unwrap();
    device.sums()[6].store(checksum::of(run.slot(6), &page_of(2)), Ordering::Relaxed);
    // One that writes to another place: the content is one that was written.
    device.sums()[7].store(checksum::of(run.slot(8), &page_of(1)), Ordering::Relaxed);
    drop(device);
    swap.read_run(run, |at, page| {
        assert_eq!(page.is_err(), (5..8).contains(&at), "{at}")
    })
    .unwrap();
    let mut page = [0; PAGE];
    assert_eq!(swap.read(run.slot(5), &mut page), Err(Errno::EIO));
    assert_eq!(swap.read(run.slot(9), &mut page), Ok(()));
}

/// A program that closes what is not its own, and opens a file under the number.
#[test]
fn another_file_under_our_descriptor_is_neither_written_nor_read() {
    let (path, other) = (Path::new(), Path::new());
    let (swap, _) = swap_of(&path, 64);
    let run = swap.alloc(&mut Cursor::default(), 3).unwrap();
    std::fs::write(&other.0, b"precious").unwrap();
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&other.0)
        .unwrap();
    let ours = swap.devices[0].enter().unwrap().fd().as_raw_fd();
    // SAFETY: `ours` is a descriptor of this test, which looks at what becomes of it.
    assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), ours) }, ours);
    let written = swap.write(run, |_, page| page.fill(1));
    assert_eq!((written.safe, written.error), (0, Some(Errno::ESTALE)));
    assert_eq!(swap.read(run.slot(0), &mut [0; PAGE]), Err(Errno::ESTALE));
    assert_eq!(std::fs::read(&other.0).unwrap(), b"precious");
}

#[test]
fn what_cannot_be_turned_on_says_why_and_leaves_nothing() {
    // The first write grows the file, the second finds no room.
    let from_second = || -> &'static Plan { Box::leak(Box::new(Plan::new(2, u64::MAX))) };
    let path = Path::new();
    let swap = Swap::default();
    let on = |path: &std::ffi::CStr, bytes| swap.on(path, bytes, Checksums::Debug);
    assert_eq!(on(c"/dev/null", 1 << 20), Err(SwapOnError::NotAFile));
    assert_eq!(on(c"/", 1 << 20), Err(SwapOnError::Io(Errno::EISDIR)));
    let missing = path.0.join("file");
    let missing = CString::new(missing.to_str().unwrap()).unwrap();
    assert_eq!(on(&missing, 1 << 20), Err(SwapOnError::Io(Errno::ENOENT)));
    for bytes in [0, 4095, u64::MAX, (1 << 40) + 1] {
        assert_eq!(on(&path.c(), bytes), Err(SwapOnError::Size));
        assert!(!path.0.exists());
    }
    let how = Fault::Fails(Errno::ENOSPC);
    let no_room = || {
        fault::follow_io(Some(IoPlan {
            which: from_second(),
            how,
        }));
        let got = on(&path.c(), 1 << 20);
        fault::follow_io(None);
        assert_eq!(got, Err(SwapOnError::Io(Errno::ENOSPC)));
    };
    no_room();
    assert!(!path.0.exists());
    std::fs::write(&path.0, [7; 5000]).unwrap();
    no_room();
    let kept = std::fs::read(&path.0).unwrap();
    assert_eq!((kept.len(), &kept[..PAGE]), (5000, &[7; PAGE][..]));

    let id = on(&path.c(), 1 << 20).unwrap();
    assert_eq!(id, SwapDeviceId::new(1), "what failed left no device");
    assert_eq!(on(&path.c(), 1 << 20), Err(SwapOnError::Busy));
    let other = Swap::default();
    let got = other.on(&path.c(), 1 << 20, Checksums::Debug);
    assert_eq!(got, Err(SwapOnError::Busy), "as in another process");
    assert_eq!(path.len(), 1 << 20);
    let more: Vec<Path> = (0..DEVICES).map(|_| Path::new()).collect();
    let got: Vec<_> = more.iter().map(|path| on(&path.c(), 8192)).collect();
    assert_eq!(got.iter().filter(|got| got.is_ok()).count(), DEVICES - 1);
    assert_eq!(got.last(), Some(&Err(SwapOnError::TooMany)));
}

/// A file with holes, or shorter, gets a place for every block.
#[test]
fn a_device_that_is_on_has_all_its_blocks() {
    for len in [0, 3 * PAGE as u64 + 5, 200 * PAGE as u64] {
        let path = Path::new();
        std::fs::File::create(&path.0)
            .unwrap()
            .set_len(len)
            .unwrap();
        let (_swap, _) = swap_of(&path, 150);
        let file = file::open(&path.c(), file::Access::Read, file::Cached::Yes).unwrap();
        let stat = file::stat(file.as_fd()).unwrap();
        assert!(stat.size >= 150 * PAGE as u64 && stat.allocated >= 150 * PAGE as u64);
    }
}

#[test]
fn a_device_is_emptied_and_closed_and_its_numbers_are_given_again() {
    let paths = [Path::new(), Path::new(), Path::new()];
    let (swap, first) = swap_of(&paths[0], 128);
    let on = |path: &Path, slots| {
        swap.on(&path.c(), slots * PAGE as u64, Checksums::Debug)
            .unwrap()
    };
    let second = on(&paths[1], 64);
    let mut cursor = Cursor::default();
    let run = swap.alloc(&mut cursor, 10).unwrap();
    assert_eq!(swap.device_of(run.slot(9)), Some(first));
    assert!(!swap.try_close(first), "it is on");
    assert!(swap.off(first));
    assert_eq!(
        swap.usage_of(first),
        Some(Usage {
            used: 10,
            total: 10
        })
    );
    let beyond = swap.alloc(&mut cursor, 1).unwrap();
    assert_eq!(swap.device_of(beyond.slot(0)), Some(second));
    assert!(swap.keep_on(first) && swap.free(swap.alloc(&mut Cursor(64), 1).unwrap().slot(0)));
    assert!(swap.off(first));
    let mut slot = None;
    let mut nr = 0;
    while let Some(next) = swap.next_used(first, slot) {
        assert!(!swap.try_close(first), "slots are used");
        assert_eq!(next, run.slot(nr));
        assert_eq!(
            swap.read(next, &mut [0; PAGE]),
            Err(Errno::EIO),
            "never written"
        );
        assert!(swap.free(next));
        (nr, slot) = (nr + 1, Some(next));
    }
    assert_eq!(nr, 10);
    let looks = swap.devices[0].enter();
    assert!(!swap.try_close(first), "somebody looks");
    drop(looks);
    assert!(swap.try_close(first) && !swap.try_close(first));
    assert_eq!(
        (swap.usage_of(first), swap.next_used(first, None)),
        (None, None)
    );
    assert!(!swap.free(run.slot(0)));
    // A shorter one fits where the first was, a longer one behind the second.
    assert_eq!(on(&paths[2], 100), first);
    assert_eq!(
        swap.alloc(&mut Cursor::default(), 1)
            .map(|run| run.slot(0).raw()),
        Some(64)
    );
    assert_eq!(on(&paths[0], 128), SwapDeviceId::new(3));
    assert_eq!(swap.devices[2].range(), (256, 384));
}

#[test]
fn a_page_is_read_to_any_address() {
    let path = Path::new();
    let (swap, _) = swap_of(&path, 64);
    let run = swap.alloc(&mut Cursor::default(), 2).unwrap();
    swap.write(run, |at, page| *page = page_of(at.into()));
    let mut memory = vec![0; 3 * PAGE];
    for at in [0, 1, 511, 512, 4095] {
        let page: &mut [u8; PAGE] = memory[at..at + PAGE].first_chunk_mut().unwrap();
        assert_eq!(swap.read(run.slot(1), page), Ok(()));
        assert!(*page == page_of(1));
    }
}

#[test]
fn threads_share_devices_without_sharing_slots() {
    let paths = [Path::new(), Path::new()];
    let (swap, first) = swap_of(&paths[0], 300);
    swap.on(&paths[1].c(), 64 * PAGE as u64, Checksums::Always)
        .unwrap();
    std::thread::scope(|s| {
        for me in 1..=3u64 {
            let swap = &swap;
            s.spawn(move || {
                let mut cursor = Cursor::default();
                let mut page = [0; PAGE];
                for round in 0..60 {
                    let Some(run) = swap.alloc(&mut cursor, round % 64 + 1) else {
                        continue;
                    };
                    let seed = |at: u32| me << 32 | u64::from(round * 64 + at);
                    let written = swap.write(run, |at, page| *page = page_of(seed(at)));
                    assert_eq!(written.error, None);
                    let last = run.len() - 1;
                    assert_eq!(swap.read(run.slot(last), &mut page), Ok(()));
                    assert!(page == page_of(seed(last)));
                    swap.read_run(run, |at, page| assert!(*page.unwrap() == page_of(seed(at))))
                        .unwrap();
                    run.slots().for_each(|slot| assert!(swap.free(slot)));
                }
            });
        }
        for _ in 0..50 {
            assert!(swap.off(first));
            assert!(!swap.try_close(first) || swap.usage_of(first).is_none());
            if !swap.keep_on(first) {
                let again = swap.on(&paths[0].c(), 300 * PAGE as u64, Checksums::Always);
                assert_eq!(again, Ok(first));
            }
        }
    });
    assert_eq!(
        swap.usage(),
        Usage {
            used: 0,
            total: 364
        }
    );
}

#[test]
fn a_child_of_a_fork_reaches_nothing() {
    let path = Path::new();
    let (swap, id) = swap_of(&path, 64);
    let run = swap.alloc(&mut Cursor::default(), 2).unwrap();
    assert_eq!(swap.write(run, |_, page| page.fill(3)).error, None);
    let ask = |swap: &Swap| {
        assert_eq!(swap.alloc(&mut Cursor::default(), 1), None);
        let written = swap.write(run, |_, _| unreachable!());
        assert_eq!((written.safe, written.error), (0, Some(Errno::EIO)));
        assert_eq!(swap.read(run.slot(0), &mut [0; PAGE]), Err(Errno::EIO));
        assert_eq!(swap.read_run(run, |_, _| unreachable!()), Err(Errno::EIO));
        assert!(!swap.off(id) && !swap.keep_on(id) && !swap.try_close(id));
        let on = swap.on(&path.c(), 1 << 20, Checksums::Debug);
        assert_eq!(on, Err(SwapOnError::Child));
    };
    // As where no handler has run yet: the number of the process differs.
    swap.process.fetch_xor(1, Ordering::Relaxed);
    ask(&swap);
    let fd = swap.devices[0]
        .enter()
        .unwrap()
        .fd()
        .try_clone_to_owned()
        .unwrap();
    // SAFETY: no other thread knows of this swap.
    swap.forget_in_child(unsafe { SoleThread::new() });
    ask(&swap);
    assert_eq!(swap.usage(), Usage::default());
    assert!(!swap.free(run.slot(0)));
    drop(fd);
    let parent = Swap::default();
    let on = parent.on(&path.c(), 0, Checksums::Debug);
    assert_eq!(on, Ok(id), "the child's descriptor is closed");
}
