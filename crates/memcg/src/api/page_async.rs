//! Touches of pages that wait without the thread.
//!
//! Invariants: a poll neither waits nor does I/O, where there are threads for that. A future that
//! was dropped has nothing pinned, and nobody wakes it.
//! Depends on: `page_waits` for pages that others are at; `page_fetch` for those that are to be
//! brought.
//! Never: blocks the thread.

#![forbid(unsafe_code)]

use super::mapping::Mapping;
use super::page_error::PageError;
use super::page_fetch::Fetch;
use super::page_guard::{PageMut, PageRef};
use super::page_waits::{self, Wait};
use super::region::PAGE_SIZE;
use crate::engine::Flags;
use crate::engine::pages::TouchError;
use crate::engine::pages::async_touch::Later;
use crate::engine::pages::touch::{Patience, PinnedPage, Touch};
use crate::engine::process_engine::{engine, with_rec};
use crate::page::word::Access;
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

/// One page that a future wants.
struct Touching<'m> {
    mapping: &'m Mapping,
    touch: Touch,
    /// While others are at the page.
    wait: Option<Wait>,
    /// While the page is brought.
    fetch: Option<Fetch>,
}

impl<'m> Touching<'m> {
    fn new(mapping: &'m Mapping, index: u64, access: Access, overwrites: bool) -> Self {
        Self {
            mapping,
            touch: Touch {
                index,
                access,
                patience: Patience::Now,
                overwrites,
                flags: Flags::NOWAIT,
            },
            wait: None,
            fetch: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<PinnedPage<'static>, PageError>> {
        self.wait = None;
        loop {
            if let Some(fetch) = &self.fetch {
                match fetch.poll(cx.waker()) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(brought) => {
                        self.fetch = None;
                        if let Err(why) = brought {
                            return Poll::Ready(Err(why));
                        }
                    }
                }
            }
            let used = self.mapping.used();
            let tried = with_rec(|engine, rec| engine.try_touch(rec, used, self.touch))
                .unwrap_or(Err(Later::Failed(TouchError::NoMemory)));
            match tried {
                Ok(pinned) => return Poll::Ready(Ok(pinned)),
                Err(Later::Failed(why)) => return Poll::Ready(Err(PageError::new(why))),
                Err(Later::Busy(page, seen)) => {
                    let record = engine().pages.leaves.page(page);
                    self.wait = page_waits::wait(page, &record.word, seen, cx.waker());
                    if self.wait.is_some() {
                        return Poll::Pending;
                    }
                }
                Err(Later::Away) => {
                    // The future may go, and its mapping with it, while the page is brought.
                    let region = self.mapping.region();
                    match Mapping::new(&region, used.mapping.tag()) {
                        Ok(own) => {
                            self.fetch = Some(Fetch::new(own, self.touch.index, cx.waker()));
                        }
                        Err(why) => return Poll::Ready(Err(why)),
                    }
                }
            }
        }
    }
}

macro_rules! pins {
    ($($(#[$doc:meta])* $name:ident: $guard:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// It can be dropped at any time, and then has nothing pinned.
        #[must_use = "futures do nothing unless polled"]
        pub struct $name<'m>(Touching<'m>);

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("page", &self.0.touch.index)
                    .finish_non_exhaustive()
            }
        }

        impl<'m> Future for $name<'m> {
            type Output = Result<$guard<'m>, PageError>;

            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                let this = &mut self.get_mut().0;
                let mapping = this.mapping;
                this.poll(cx).map_ok(|pinned| $guard::new(mapping, pinned))
            }
        }
    )*};
}

pins! {
    /// A wait for a page to read: what [`Mapping::pin_async`] answers.
    PinAsync: PageRef;
    /// A wait for a page to write: what [`Mapping::pin_mut_async`] answers.
    PinMutAsync: PageMut;
}

impl Mapping {
    /// As [`Self::pin`], without blocking the thread: a page that has to be brought is brought by a
    /// thread of the engine (four at most, which end when they have no work), one that others have
    /// pinned is waited for, for as long as it takes: drop the future to wait no longer. What is
    /// above `memory.high` is not held back.
    ///
    /// The guard is bound to the thread that polled, so a future that can move between threads
    /// cannot hold it over an `.await`; and none should: who wants the page waits meanwhile. Copy
    /// with [`Self::read_at_async`].
    ///
    /// Those who wait for others are woken by the engine's worker. Without it (`MEMCG_NO_THREAD`)
    /// nobody wakes: poll from time to time; and pages are brought by the poll itself.
    /// [`charge_to`](fn@super::charge_to) does not reach pages that another thread brings.
    ///
    /// Cost: of a page in memory as [`Self::pin`]. Else a wake-up, and for a page that is brought a
    /// mapping for that time.
    ///
    /// # Errors
    /// As [`Self::pin`], but that it does not give up with [`PageError::Busy`].
    pub fn pin_async(&self, page: u64) -> PinAsync<'_> {
        PinAsync(Touching::new(self, page, Access::Read, false))
    }

    /// As [`Self::pin_mut`], without blocking the thread: see [`Self::pin_async`].
    ///
    /// # Errors
    /// As [`Self::pin_mut`], but that it does not give up with [`PageError::Busy`].
    pub fn pin_mut_async(&self, page: u64) -> PinMutAsync<'_> {
        PinMutAsync(Touching::new(self, page, Access::Write, false))
    }

    /// As [`Self::read_at`], without blocking the thread: see [`Self::pin_async`].
    ///
    /// # Errors
    /// As [`Self::read_at`], but that it does not give up with [`PageError::Busy`].
    pub async fn read_at_async(&self, offset: u64, into: &mut [u8]) -> Result<(), PageError> {
        let len = into.len();
        self.check_range(offset, len)?;
        let mut done = 0;
        while done < len {
            let (page, within, piece) = piece(offset, done, len);
            let part = &mut into[done..done + piece];
            if !self.try_read_part(page, within, part)? {
                let pinned = self.pin_async(page).await?;
                part.copy_from_slice(&pinned[within..within + piece]);
            }
            done += piece;
        }
        Ok(())
    }

    /// As [`Self::write_at`], without blocking the thread: see [`Self::pin_async`]. If it is
    /// dropped early, pages before the one that it waited for are written.
    ///
    /// # Errors
    /// As [`Self::write_at`], but that it does not give up with [`PageError::Busy`].
    pub async fn write_at_async(&self, offset: u64, from: &[u8]) -> Result<(), PageError> {
        let len = from.len();
        self.check_range(offset, len)?;
        let mut done = 0;
        while done < len {
            let (page, within, piece) = piece(offset, done, len);
            let touching = Touching::new(self, page, Access::Write, piece == PAGE_SIZE);
            {
                let mut pinned = PinMutAsync(touching).await?;
                pinned[within..within + piece].copy_from_slice(&from[done..done + piece]);
            }
            done += piece;
        }
        Ok(())
    }
}

/// The page of the next piece, where it begins in it, and its length.
fn piece(offset: u64, done: usize, len: usize) -> (u64, usize, usize) {
    let here = offset + done as u64;
    let within = (here % PAGE_SIZE as u64) as usize;
    let piece = (PAGE_SIZE - within).min(len - done);
    (here / PAGE_SIZE as u64, within, piece)
}
