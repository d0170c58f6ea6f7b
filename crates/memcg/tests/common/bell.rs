//! A waker that counts how often it was called.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

#[derive(Default)]
pub struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // Release pairs with the Acquire of `rung`: who hears it sees what led to it.
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl Bell {
    pub fn rung(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    /// Waits until it has been rung.
    pub fn wait(&self) {
        while self.rung() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn poll<F: Future>(self: &Arc<Self>, future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&Waker::from(self.clone())))
    }
}
