//! What other crates of the project use beside the API, called as no crate of the project would:
//! from code that has no `unsafe`, with arguments that make no sense, at the wrong time.

#![cfg(not(loom))]
#![forbid(unsafe_code)]

use memcg::internal::mapped::Owner;
use memcg::internal::process::Settings;
use memcg::internal::{bench, control, files, malloc, os, process, thread};
use memcg::root;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The hooks are the process's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const SIZES: [usize; 12] = [
    0,
    1,
    8,
    1024,
    1025,
    64 << 10,
    (64 << 10) + 1,
    4 << 20,
    isize::MAX as usize - 1,
    isize::MAX as usize,
    usize::MAX - 1,
    usize::MAX,
];

#[test]
fn any_size_and_alignment_has_an_answer() {
    let _alone = alone();
    assert!(malloc::is_able());
    for bytes in SIZES {
        for align in [0, 1, 3, 16, 17, 4096, 1 << 20, 1 << 63, usize::MAX] {
            let size = malloc::size_of_object(bytes, align);
            assert!(size.is_none_or(|size| size >= bytes), "{bytes} at {align}");
        }
        // Not freed: that takes `unsafe`.
        let hit = malloc::alloc_hit(bytes);
        let missed = malloc::alloc_missed(bytes, malloc::Asks::Refusable);
        assert!(bytes <= 64 << 10 || hit.is_none());
        assert_eq!(missed.is_null(), bytes > 1 << 40, "{bytes}");
    }
    malloc::trim();
    let stat = malloc::stat();
    assert!(stat.mapped >= stat.live && stat.live > 4 << 20);
}

#[test]
fn threads_find_make_and_enter_groups_of_any_name() {
    let _alone = alone();
    let work = || {
        thread::with_thread(|thread| {
            assert!(!thread.has_task());
            thread.with_tree(|tree| {
                let top = tree.root();
                for bad in [&b""[..], b".", b"..", b"a/b", b"\n", &[b'x'; 256]] {
                    // Nothing of that name is made: the answer is the parent.
                    let at = tree.child(top, bad);
                    let is_first = !thread.has_task();
                    assert_eq!(tree.begin_task(at, b"x"), is_first);
                }
                assert!(thread.has_task());
                let child = tree.child(top, b"of-internal");
                assert!(!tree.begin_task(child, b"a second task"));
                let own = tree.own_task().unwrap();
                assert!(tree.move_task(own, child) && tree.move_task(own, child));
                assert!(tree.task_of(u32::MAX).is_none() && tree.task_of(0).is_none());
                let by_tid = tree.task_of(os::tid()).unwrap();
                assert!(tree.move_task(by_tid, top));
                // Pinned twice, and known twice.
                thread.with_tree(|tree| assert!(tree.own_task().is_some()));
                assert!(thread::with_thread(|thread| thread.has_task()).unwrap());
            });
        })
        .unwrap();
        thread::id()
    };
    let ids = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        (thread::id(), other.join().unwrap())
    });
    assert!(ids.0 != ids.1 && ids.0 != 0);
    let made = root().lookup("of-internal").unwrap();
    let max_name = [b'n'; 255];
    let refused = std::thread::spawn(move || {
        thread::with_thread(|thread| {
            thread.with_tree(|tree| tree.begin_task(tree.root(), &[b'x'; 256]))
        })
    });
    assert_eq!(refused.join().unwrap(), Some(false));
    std::thread::spawn(move || {
        thread::with_thread(|thread| {
            thread.with_tree(|tree| tree.begin_task(tree.root(), &max_name))
        })
    })
    .join()
    .unwrap();
    made.remove().unwrap();
}

#[test]
fn a_group_that_ends_while_the_tree_is_looked_at_takes_no_task() {
    let _alone = alone();
    let ended = std::thread::spawn(|| {
        thread::with_thread(|thread| {
            thread.with_tree(|tree| {
                let group = tree.child(tree.root(), b"ends");
                root().lookup("ends").unwrap().remove().unwrap();
                let below = tree.child(group, b"below");
                (tree.begin_task(group, b"x"), tree.begin_task(below, b"x"))
            })
        })
    });
    assert_eq!(ended.join().unwrap(), Some((false, false)));
}

#[test]
fn an_owner_is_a_number_and_charging_it_takes_more() {
    let _alone = alone();
    let owner = thread::with_thread(|thread| {
        thread.pay_in_malloc();
        assert!(thread.is_accounting());
        thread.owner()
    })
    .unwrap();
    assert!(owner != Owner::NOBODY && owner != Owner::from_raw(u32::MAX));
    assert_eq!(Owner::from_raw(0), Owner::NOBODY);
    assert!(bench::slab_bytes() < 1 << 30);
}

#[test]
fn files_refuse_what_is_none() {
    let _alone = alone();
    for path in [&b""[..], b"/", b"/no/such", b"..", b"\0", b"//x//"] {
        for file in [
            &b""[..],
            b"memory.max",
            b"no.such",
            b"../memory.max",
            b"\xff",
        ] {
            let _ = files::read(path, file);
            let _ = files::write(path, file, b"\xff\xff");
        }
        assert!(files::rmdir(path).is_err());
        assert!(files::move_task(u32::MAX, path).is_err());
        assert!(files::mkdir(path).is_err() || files::rmdir(path).is_ok());
    }
    assert!(files::read(b"/", b"memory.stat").unwrap().contains("heap"));
}

#[test]
fn what_belongs_to_the_process_can_be_said_at_any_time() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let _alone = alone();
    process::serve_whole_process(Settings {
        no_thread: true,
        ..Settings::default()
    });
    assert!(process::is_serving());
    process::set_in_child(|| ());
    process::defer(u64::MAX, || panic!("in 584 years"));
    process::defer(0, || {
        RUNS.fetch_add(1, Ordering::Relaxed);
    });
    thread::set_thread_hook(|thread| assert!(!thread.has_task()));
    thread::set_thread_hook(|_| panic!("the first counts"));
    thread::set_last_thread_hook(|| ());
    std::thread::spawn(|| thread::with_thread(|_| ()).unwrap())
        .join()
        .unwrap();
    thread::with_thread(|_| ()).unwrap();
    assert_eq!(RUNS.load(Ordering::Relaxed), 1);

    assert!(!control::stop());
    control::end();
    let report = control::report().unwrap();
    assert!(report.starts_with(&format!("pid={} ", std::process::id())));

    let word = AtomicU32::new(1);
    os::futex::wait(&word, 2);
    os::futex::wake_one(&word);
    let outer = os::errno::keep();
    os::errno::set(7);
    drop(os::errno::keep());
    drop(outer);
    // Signals held off twice, and let on in the wrong order.
    let first = os::sigmask::block_all();
    let second = os::sigmask::block_all();
    drop(first);
    drop(second);
}
