//! memcg as a [`Peer`]: its groups are the tenants.

use crate::Peer;
use crate::rows::TENANTS;
use memcg::{Entered, Memcg, no_account, root};
use std::sync::OnceLock;

static TENANT: OnceLock<Vec<Memcg>> = OnceLock::new();
static PROGRAM: OnceLock<Memcg> = OnceLock::new();

/// Accounting on: the program's threads are in a group, tenants are groups beside it.
pub struct On;

impl On {
    /// The group the program's threads are in.
    pub fn program() -> &'static Memcg {
        PROGRAM.get().expect("started")
    }
}

impl Peer for On {
    type Thread = Entered;
    type Tenant = Entered;

    fn start() {
        let _ = PROGRAM.set(root().create("program").expect("a group"));
        let tenants = (0..TENANTS).map(|i| root().create(format!("tenant-{i}")).expect("a group"));
        let _ = TENANT.set(tenants.collect());
    }

    fn thread() -> Entered {
        Self::program().enter()
    }

    #[inline]
    fn tenant(index: usize) -> Entered {
        TENANT.get().expect("started")[index].enter()
    }
}

/// The same allocator, accounting to nobody.
pub struct Off;

impl Peer for Off {
    type Thread = Entered;
    type Tenant = ();

    fn start() {}

    fn thread() -> Entered {
        no_account()
    }

    fn tenant(_index: usize) {}
}
