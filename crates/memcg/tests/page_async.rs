//! Touches of pages that wait without the thread.

// Under loom there is no process's engine to test.
#![cfg(not(loom))]

#[path = "common/bell.rs"]
mod bell;

use bell::Bell;
use memcg::{Limit, Mapping, Memcg, PAGE_SIZE, PageCache, PageError, Region, root};
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

const PAGE: u64 = PAGE_SIZE as u64;

struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A file of so many pages, each of its number.
fn file(name: &str, pages: usize) -> File {
    let program = std::env::current_exe().unwrap();
    let path = program.with_file_name(format!("page-async-{name}-{}", std::process::id()));
    let bytes: Vec<u8> = (0..pages * PAGE_SIZE)
        .map(|at| (at / PAGE_SIZE) as u8)
        .collect();
    fs::write(&path, bytes).unwrap();
    File(path)
}

/// What comes of a future that another thread helps.
fn done<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    loop {
        let bell = Arc::new(Bell::default());
        match bell.poll(future.as_mut()) {
            Poll::Ready(output) => return output,
            Poll::Pending => bell.wait(),
        }
    }
}

fn group(name: &str) -> Memcg {
    root().create(name).unwrap()
}

fn pages(group: &Memcg) -> u64 {
    let usage = group.usage();
    (usage.anon + usage.shmem + usage.file) / PAGE
}

#[test]
fn a_page_of_a_file_is_brought_by_another_thread_and_charged_as_by_a_touch() {
    let (tenant, file) = (group("brought"), file("brought", 8));
    let cache = PageCache::open(&file.0).unwrap();
    let table = cache.map(&tenant).unwrap();
    let page = done(pin!(table.pin_async(5))).unwrap();
    assert!(page.iter().all(|&byte| byte == 5) && pages(&tenant) == 1);
    drop(page);
    // What is in memory is ready at once, and memory never needs anybody.
    let bell = Arc::new(Bell::default());
    assert!(bell.poll(pin!(table.pin_mut_async(5))).is_ready());
    let memory = tenant.map_anon(1 << 20).unwrap();
    let Poll::Ready(Ok(mut page)) = bell.poll(pin!(memory.pin_mut_async(3))) else {
        panic!("zeros need nobody");
    };
    page[0] = 1;
    drop(page);
    let mut into = [9; 2];
    assert_eq!(
        bell.poll(pin!(memory.read_at_async(7 * PAGE, &mut into))),
        Poll::Ready(Ok(()))
    );
    assert_eq!((into, pages(&tenant), bell.rung()), ([0; 2], 2, 0));
    // A page that is overwritten whole is not read.
    let new = [77; PAGE_SIZE];
    assert_eq!(
        bell.poll(pin!(table.write_at_async(6 * PAGE, &new))),
        Poll::Ready(Ok(()))
    );
    cache.sync().unwrap();
    assert_eq!(
        fs::read(&file.0).unwrap()[6 * PAGE_SIZE..7 * PAGE_SIZE],
        new
    );
    // The request's own mapping goes when it is over.
    let start = std::time::Instant::now();
    while cache.region().nr_mappings() != 1 {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
}

#[test]
fn who_waits_for_a_page_is_woken_when_it_is_let_go() {
    let (tenant, other) = (group("woken"), group("woken-other"));
    let shared = Region::shmem("woken", 1 << 20).unwrap();
    let (mine, others) = (shared.map(&tenant).unwrap(), shared.map(&other).unwrap());
    let (reads, writes) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
    let mut reading = pin!(mine.pin_async(7));
    let mut writing = pin!(mine.pin_mut_async(7));
    std::thread::scope(|s| {
        let (told, is_told) = std::sync::mpsc::channel::<()>();
        let (pinned, is_pinned) = std::sync::mpsc::channel::<()>();
        let others = &others;
        s.spawn(move || {
            let mut page = others.pin_mut(7).unwrap();
            pinned.send(()).unwrap();
            is_told.recv().unwrap();
            page[0] = 42;
        });
        is_pinned.recv().unwrap();
        assert!(reads.poll(reading.as_mut()).is_pending());
        assert!(writes.poll(writing.as_mut()).is_pending());
        // One that is dropped is not woken.
        let gone = Arc::new(Bell::default());
        {
            let mut third = pin!(mine.pin_async(7));
            assert!(gone.poll(third.as_mut()).is_pending());
        }
        assert_eq!(Arc::strong_count(&gone), 1, "it keeps no waker");
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!((reads.rung(), writes.rung()), (0, 0));
        told.send(()).unwrap();
        reads.wait();
        writes.wait();
        assert_eq!(gone.rung(), 0);
    });
    let Poll::Ready(Ok(page)) = reads.poll(reading) else {
        panic!("nobody is at it");
    };
    assert_eq!(page[0], 42);
    // This thread has it: for the same tenant that is told at once.
    assert!(matches!(
        writes.poll(writing),
        Poll::Ready(Err(PageError::Deadlock))
    ));
    // Another's future of this thread waits until it is let go.
    let bell = Arc::new(Bell::default());
    let mut writing = pin!(others.pin_mut_async(7));
    assert!(bell.poll(writing.as_mut()).is_pending());
    drop(page);
    bell.wait();
    assert!(bell.poll(writing).is_ready());
}

#[test]
fn what_fails_is_an_error_and_a_future_that_goes_leaves_nothing() {
    let (tenant, file) = (group("fails"), file("fails", 8));
    let cache = PageCache::open(&file.0).unwrap();
    let table = cache.map(&tenant).unwrap();
    let bell = Arc::new(Bell::default());
    let beyond = bell.poll(pin!(table.pin_async(8)));
    assert!(matches!(beyond, Poll::Ready(Err(PageError::OutOfRange))));
    let beyond = bell.poll(pin!(table.write_at_async(8 * PAGE - 1, &[1, 2])));
    assert_eq!(beyond, Poll::Ready(Err(PageError::OutOfRange)));
    tenant.set_max(Limit::bytes(2 * PAGE)).unwrap();
    let (zero, one) = (table.pin(0).unwrap(), table.pin(1).unwrap());
    let full = done(pin!(table.pin_async(2))).map(drop);
    assert!(matches!(full, Err(PageError::Full(_))), "{full:?}");
    drop((zero, one));
    tenant.set_max(Limit::MAX).unwrap();
    for page in 2..8 {
        // Dropped while it is brought, and its mapping after it.
        let table = cache.map(&tenant).unwrap();
        let _ = bell.poll(pin!(table.pin_async(page))).map(drop);
    }
    let start = std::time::Instant::now();
    while cache.region().nr_mappings() != 1 || pages(&tenant) != 8 {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
    cache.set_len(0).unwrap();
    assert_eq!(
        (pages(&tenant), tenant.current()),
        (0, 0),
        "nothing is pinned"
    );
}

async fn work(table: Arc<Mapping>, me: u64, pages: u64) {
    for i in 0..200 {
        let at = (i * 7 + me * 3) % pages * PAGE + me * 8;
        table.write_at_async(at, &i.to_ne_bytes()).await.unwrap();
        let mut back = [0; 8];
        table.read_at_async(at, &mut back).await.unwrap();
        assert_eq!(u64::from_ne_bytes(back), i);
        if i % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[test]
fn tasks_of_a_runtime_read_and_write_at_once_and_lose_no_byte() {
    const PAGES: u64 = 40;
    let (tenant, file) = (group("runtime"), file("runtime", PAGES as usize));
    let cache = PageCache::open(&file.0).unwrap();
    let table = Arc::new(cache.map(&tenant).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..16)
            .map(|me| tokio::spawn(work(table.clone(), me, PAGES)))
            .collect();
        for task in tasks {
            cache.invalidate(0..cache.len()).unwrap();
            task.await.unwrap();
        }
    });
    let mut expected: Vec<u8> = (0..PAGES as usize * PAGE_SIZE)
        .map(|at| (at / PAGE_SIZE) as u8)
        .collect();
    for me in 0..16 {
        for i in 0..200_u64 {
            let at = ((i * 7 + me * 3) % PAGES * PAGE + me * 8) as usize;
            expected[at..at + 8].copy_from_slice(&i.to_ne_bytes());
        }
    }
    table.sync().unwrap();
    assert!(fs::read(&file.0).unwrap() == expected);
}
