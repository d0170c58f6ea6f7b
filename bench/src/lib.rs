//! The benchmark program, the same for every peer: an image is this library, a global allocator and
//! [`Peer`].
//!
//! An image runs one row in one process: `IMAGE ROW [OPS]`, and prints one line of `name=value`
//! ([`measure::Run`]). All memory the rows use for themselves comes from mmap ([`measure::table`]),
//! so that it is no peer's.

#[cfg(feature = "memcg")]
pub mod groups;
pub mod measure;
pub mod random;
pub mod rows;

use measure::Run;
use rows::ROWS;

/// What differs between images beside the allocator: whom a thread works for.
///
/// Peers without groups do nothing, and the calls vanish.
pub trait Peer: 'static {
    /// Held by a thread for its life.
    type Thread;
    /// Held while working for a tenant.
    type Tenant;

    /// Makes the tenants; called once, first.
    fn start();
    /// The calling thread works for the program itself.
    fn thread() -> Self::Thread;
    /// The calling thread works for tenant `index` of [`rows::TENANTS`].
    fn tenant(index: usize) -> Self::Tenant;
    /// Runs a row that only this peer has.
    fn own_row(_row: &str, _ops: Option<u64>) -> Option<Run> {
        None
    }
}

/// The peer that knows no tenants.
pub struct Plain;

impl Peer for Plain {
    type Thread = ();
    type Tenant = ();
    fn start() {}
    fn thread() {}
    fn tenant(_index: usize) {}
}

/// The whole of an image.
pub fn main<P: Peer>() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(row) = arguments.first() else {
        eprintln!("usage: IMAGE ROW [OPS]");
        std::process::exit(2);
    };
    let ops = arguments.get(1).and_then(|n| n.parse().ok());
    if row == "version" {
        println!("{}", version());
        return;
    }
    // A thread that panics would leave others waiting for it, and the harness for them.
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        std::process::abort();
    }));
    P::start();
    let run = P::own_row(row, ops).or_else(|| {
        let known = ROWS.iter().find(|known| known.name == row)?;
        let _thread = P::thread();
        rows::run::<P>(row, ops.unwrap_or(known.ops))
    });
    match run {
        Some(run) => println!("{run}"),
        None => {
            eprintln!("no row {row} here");
            std::process::exit(3);
        }
    }
}

/// What the linked allocator says its version is, where it does; its crate's is in Cargo.lock.
fn version() -> String {
    #[cfg(any(feature = "mimalloc2", feature = "mimalloc3"))]
    {
        unsafe extern "C" {
            safe fn mi_version() -> i32;
        }
        return mi_version().to_string();
    }
    #[allow(unreachable_code)]
    String::new()
}
