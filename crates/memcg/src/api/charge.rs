//! Reservations: charges without memory of ours behind them.

use super::error::{MergeError, ReserveError};
use crate::engine::Flags;
use crate::engine::process::{engine, with_rec};
use crate::group::charge::round_up;
use crate::group::{Kind, NO_TAG};

/// Bytes charged to an owner until this is dropped. The books count in multiples of 8.
///
/// ```
/// let group = memcg::root().create("reservations").unwrap();
/// group.set_max(memcg::Limit::bytes(1 << 20));
/// let mut sort = group.try_reserve(600 << 10).unwrap();
/// assert!(group.try_reserve(600 << 10).is_err());
/// let merge_buffer = sort.split(200 << 10);
/// sort.resize(100 << 10).unwrap();
/// assert_eq!(group.current(), 300 << 10);
/// drop((sort, merge_buffer));
/// assert_eq!(group.current(), 0);
/// ```
#[must_use = "the bytes are given back when this is dropped"]
#[derive(Debug)]
pub struct Charge {
    tag: u32,
    bytes: u64,
}

/// As [`Memcg::try_reserve`](super::Memcg::try_reserve), for whom the thread is working.
///
/// # Errors
/// As there.
pub fn try_reserve(bytes: u64) -> Result<Charge, ReserveError> {
    Charge::new(with_rec(|_, rec| rec.current()).unwrap_or(NO_TAG), bytes)
}

impl Charge {
    /// Charges a `tag` the caller names.
    pub(crate) fn new(tag: u32, bytes: u64) -> Result<Self, ReserveError> {
        let mut charge = Self { tag, bytes: 0 };
        if tag != NO_TAG {
            engine().tree.hold_objcg(tag);
        }
        charge.grow(bytes)?;
        Ok(charge)
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn grow(&mut self, by: u64) -> Result<(), ReserveError> {
        let Some(new) = self
            .bytes
            .checked_add(by)
            .filter(|&n| n <= crate::group::Objcg::LIMIT)
        else {
            return Err(ReserveError {
                group: String::new(),
                bytes: by,
                usage: self.bytes,
                max: crate::group::Objcg::LIMIT,
            });
        };
        let more = round_up(new) - round_up(self.bytes);
        if more > 0 {
            with_rec(|engine, rec| {
                engine.charge(rec, self.tag, more, Kind::Reserved, Flags::NOWAIT)
            })
            .transpose()
            .map_err(|refused| ReserveError::new(&refused))?;
        }
        self.bytes = new;
        Ok(())
    }

    fn shrink(&mut self, by: u64) {
        let new = self.bytes - by;
        let less = round_up(self.bytes) - round_up(new);
        self.bytes = new;
        if less > 0 {
            with_rec(|engine, rec| engine.uncharge(rec, self.tag, less, Kind::Reserved));
        }
    }

    /// Makes it hold `bytes`.
    ///
    /// # Errors
    /// When a limit refuses the growth; it then holds what it held.
    pub fn resize(&mut self, bytes: u64) -> Result<(), ReserveError> {
        if bytes >= self.bytes {
            return self.grow(bytes - self.bytes);
        }
        self.shrink(self.bytes - bytes);
        Ok(())
    }

    /// Takes `bytes` off into a charge of their own. Where the cut is not at a multiple of 8, the halves' rounding is
    /// charged in addition, whatever the limit.
    ///
    /// # Panics
    /// When it holds fewer.
    pub fn split(&mut self, bytes: u64) -> Charge {
        assert!(
            bytes <= self.bytes,
            "a charge of {} bytes cannot give {bytes}",
            self.bytes
        );
        let rest = self.bytes - bytes;
        let extra = round_up(rest) + round_up(bytes) - round_up(self.bytes);
        if self.tag != NO_TAG {
            engine().tree.hold_objcg(self.tag);
        }
        if extra > 0 {
            let forced = with_rec(|engine, rec| {
                engine.charge(rec, self.tag, extra, Kind::Reserved, Flags::FORCE)
            });
            debug_assert!(forced.is_none_or(|charged| charged.is_ok()));
        }
        self.bytes = rest;
        Charge {
            tag: self.tag,
            bytes,
        }
    }

    /// Takes `other` in.
    ///
    /// # Errors
    /// When it belongs to another owner; both come back as they were.
    pub fn merge(&mut self, mut other: Charge) -> Result<(), (MergeError, Charge)> {
        if other.tag != self.tag {
            return Err((MergeError::OtherOwner, other));
        }
        let all = self.bytes + other.bytes;
        let less = round_up(self.bytes) + round_up(other.bytes) - round_up(all);
        other.bytes = 0;
        self.bytes = all;
        if less > 0 {
            with_rec(|engine, rec| engine.uncharge(rec, self.tag, less, Kind::Reserved));
        }
        Ok(())
    }

    /// Leaves the bytes charged for good: they outlive this value and every handle, and show in the ledger once their task
    /// or group has ended. For memory that is given away to code that never frees.
    pub fn forget(self) {
        with_rec(|engine, rec| {
            let _pin = engine.tree.threads.epoch.pin(rec);
            if self.tag != NO_TAG {
                engine.tree.release_objcg(self.tag);
            }
        });
        core::mem::forget(self);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink(self.bytes);
        if self.tag != NO_TAG {
            with_rec(|engine, rec| {
                let _pin = engine.tree.threads.epoch.pin(rec);
                engine.tree.release_objcg(self.tag);
            });
        }
    }
}
