//! A small buffer pool for eight tenants over one file, four times as large as what the tenants may
//! have in memory together. Seven read their part of it, a few pages often and most seldom; the
//! eighth reads the whole file from end to end, again and again. Each has a protection of its
//! share.
//!
//! `cargo run --release --example tenant_pages`
//!
//! Printed are the misses of the seven while the eighth is idle and while it scans. What tells a
//! server by hand which tenant's pages to evict is `memory.low` here, and the order within a tenant
//! is the engine's.

use memcg::{Limit, Memcg, PAGE_SIZE, PageCache, root};
use std::error::Error;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

const TENANTS: u64 = 8;

/// Pages of the file, and touches of each tenant: few where it only tries itself.
fn size() -> (u64, u64) {
    match std::env::args().any(|word| word == "--check") {
        true => (4 << 10, 20_000),
        false => (32 << 10, 400_000),
    }
}

/// Numbers that look random, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Below `n`; the square of an even distribution's place, twice: the first are taken often.
    fn skewed(&mut self, n: u64) -> u64 {
        let even = (self.next() % 65_536) as f64 / 65_536.0;
        ((even * even * even * even) * n as f64) as u64
    }
}

fn misses(group: &Memcg) -> u64 {
    let stat = group.read("memory.stat").unwrap_or_default();
    let line = stat.lines().find(|line| line.starts_with("pgmajfault "));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .unwrap_or(0)
}

/// A number that page `n` of the file begins with.
fn mark(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Has all tenants read, the last only if it `scans`; answers the misses of each in thousandths of
/// its touches, the first half of the touches left out.
fn run(
    cache: &PageCache,
    pages: u64,
    touches: u64,
    scans: bool,
) -> Result<Vec<u64>, Box<dyn Error>> {
    let pool = root().create(if scans { "scanned" } else { "quiet" })?;
    pool.set_max(Limit::bytes(pages / 4 * PAGE_SIZE as u64))?;
    let share = pages / 4 / TENANTS * PAGE_SIZE as u64;
    let tenants = (0..TENANTS)
        .map(|n| {
            let tenant = pool.create(format!("tenant-{n}"))?;
            tenant.write("memory.low", &share.to_string())?;
            let mapping = cache.map(&tenant)?;
            Ok((tenant, mapping, Random(n + 1)))
        })
        .collect::<Result<Vec<_>, Box<dyn Error>>>();
    let mut tenants = tenants?;
    pool.write("memory.low", &(share * TENANTS).to_string())?;
    let part = pages / TENANTS;
    let (mut scanned, mut before) = (0, vec![0; TENANTS as usize]);
    for touch in 0..touches {
        for (n, (tenant, mapping, random)) in (0..).zip(&mut tenants) {
            let page = match n == TENANTS - 1 {
                true if scans => {
                    scanned += 1;
                    scanned % pages
                }
                true => continue,
                false => n * part + random.skewed(part),
            };
            let found = mapping.read_with(page, |page| page.load::<u64>(0))?;
            if found != mark(page) {
                return Err(format!("page {page} of the file is wrong").into());
            }
            if touch == touches / 2 {
                before[n as usize] = misses(tenant);
            }
        }
    }
    let rows = tenants
        .iter()
        .zip(before)
        .map(|((tenant, ..), before)| (misses(tenant) - before) * 1000 / (touches / 2))
        .collect();
    // The next run begins with nothing in memory.
    drop(tenants);
    cache.invalidate(0..cache.len())?;
    Ok(rows)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (pages, touches) = size();
    let path = std::env::temp_dir().join(format!("tenant-pages-{}", std::process::id()));
    let mut content = vec![0; pages as usize * PAGE_SIZE];
    for (n, page) in (0..).zip(content.chunks_exact_mut(PAGE_SIZE)) {
        page[..8].copy_from_slice(&mark(n).to_ne_bytes());
    }
    std::fs::write(&path, &content)?;
    drop(content);
    let cache = PageCache::open(&path)?;
    println!(
        "misses of 1000 touches; {} MiB of file, a quarter of it in memory",
        pages >> 8
    );
    let mut rows = Vec::new();
    for scans in [false, true] {
        let start = Instant::now();
        let row = run(&cache, pages, touches, scans)?;
        let what = if scans {
            "the eighth scans"
        } else {
            "the eighth is idle"
        };
        println!(
            "{what:>20}: {row:?}  ({:.1} s)",
            start.elapsed().as_secs_f64()
        );
        rows.push(row);
    }
    std::fs::remove_file(&path)?;
    let worst = (0..TENANTS as usize - 1)
        .map(|n| rows[1][n].saturating_sub(rows[0][n]))
        .max();
    let worst = worst.unwrap_or(0);
    println!("the scan costs the others {worst} of 1000 touches at most");
    if worst > 100 {
        return Err("a scan has pushed out what others use".into());
    }
    Ok(())
}
