//! Charges for memory that the program maps itself: the kind `mapped`.
//!
//! Invariants: an `Owner` is a tag and does not keep the owner's record. Whoever charges makes sure
//! that the owner is there.
//! Depends on: the thread's handle, the engine's charge.
//! Never: looks at the mapping itself.

use super::malloc::Asks;
use super::thread::Thread;
use crate::engine::{Accounting, Flags, Request, throttle};
use crate::group::{Kind, Tag};

/// An owner of memory, or nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Owner(pub(super) Option<Tag>);

impl Owner {
    /// No owner: memory that is charged to nobody.
    pub const NOBODY: Owner = Owner(None);

    /// The owner of a number; [`Owner::NOBODY`] for 0.
    #[must_use]
    pub fn from_raw(raw: u32) -> Self {
        Self(Tag::from_word(raw))
    }
}

/// How a charge ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Charged {
    /// The charge was made.
    Yes,
    /// The charge was not made, though no limit was in the way: the owner's counter has no room for
    /// it.
    Uncounted,
    /// A limit refused the charge.
    Refused,
}

impl Thread<'_> {
    /// The owner the thread works for now. [`Owner::NOBODY`] where accounting is off.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner(self.rec.current().filter(|_| self.is_accounting()))
    }

    /// Whether the process's charges are counted.
    #[must_use]
    pub fn is_accounting(&self) -> bool {
        self.engine.accounting() == Accounting::On
    }

    /// Charges `bytes` of mapped memory to `owner`, of which `forced` bytes are charged whatever
    /// the limits say, and the rest as `asks` says.
    ///
    /// # Safety
    /// `owner` is what [`Self::owner`] has just answered for this thread, or it is charged bytes
    /// that stay charged during the call. `forced` is at most `bytes`.
    #[must_use]
    pub unsafe fn charge_mapped(
        &self,
        owner: Owner,
        bytes: usize,
        forced: usize,
        asks: Asks,
    ) -> Charged {
        let flags = asks.flags();
        let one = |bytes: usize, flags| match owner.0 {
            Some(tag) if bytes > 0 => {
                let request = Request {
                    tag,
                    bytes: bytes as u64,
                    kind: Kind::Mapped,
                    flags,
                };
                self.engine.charge(self.rec, request)
            }
            Some(_) | None => Ok(0),
        };
        if let Err(why) = one(bytes - forced, flags) {
            return match why.refusal.group {
                None => Charged::Uncounted,
                Some(_) => Charged::Refused,
            };
        }
        if one(forced, flags | Flags::FORCE).is_err() {
            // SAFETY: `one` has just charged these bytes to `owner`, as mapped ones, and nobody has
            // uncharged them since.
            unsafe { self.uncharge_mapped(owner, bytes - forced) };
            return Charged::Uncounted;
        }
        Charged::Yes
    }

    /// Uncharges `bytes` of mapped memory of `owner`. Does nothing for [`Owner::NOBODY`].
    ///
    /// # Safety
    /// `bytes` were charged to `owner` by [`Self::charge_mapped`] and have not been uncharged
    /// since.
    pub unsafe fn uncharge_mapped(&self, owner: Owner, bytes: usize) {
        if let Some(tag) = owner.0.filter(|_| bytes > 0) {
            self.engine
                .uncharge(self.rec, tag, bytes as u64, Kind::Mapped);
        }
    }

    /// Pays, by sleeping 10 ms at most, what the thread owes for groups above their `high`; nothing
    /// unless the process was told to pay inside malloc.
    pub fn pay_in_malloc(&self) {
        if self.engine.options.pay_in_malloc() {
            self.engine.safe_point(self.rec, throttle::MALLOC_NS);
        }
    }
}
