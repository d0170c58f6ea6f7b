//! The promises of `memcg_runtimes` on tokio (both flavours), smol and the futures crate's
//! executor.

#![forbid(unsafe_code)]

use futures::executor::ThreadPool;
use futures::future::{AbortHandle, Abortable};
use futures::task::SpawnExt;
use memcg_runtimes::{Handle, Runtime};
use std::future::Future;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

/// tokio with one thread, which runs what was spawned while it is in `block_on`.
struct TokioCurrent(tokio::runtime::Runtime);
/// tokio with three.
struct TokioMulti(tokio::runtime::Runtime);
/// smol's global executor.
struct Smol;
/// The futures crate's.
struct Futures(ThreadPool);

fn spawn_on_tokio<F>(runtime: &tokio::runtime::Runtime, future: F) -> Handle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let task = runtime.spawn(future);
    Box::pin(async { task.await.expect("it neither panics nor is cancelled") })
}

macro_rules! tokio_runtime {
    ($type:ident, $name:literal) => {
        impl Runtime for $type {
            const NAME: &'static str = $name;

            fn block_on<F: Future>(&self, future: F) -> F::Output {
                self.0.block_on(future)
            }

            fn spawn<F>(&self, future: F) -> Handle<F::Output>
            where
                F: Future + Send + 'static,
                F::Output: Send,
            {
                spawn_on_tokio(&self.0, future)
            }

            fn spawn_to_cancel(&self, future: Handle<()>) -> Box<dyn FnOnce() + Send> {
                let task = self.0.spawn(future);
                Box::new(move || task.abort())
            }
        }
    };
}

tokio_runtime!(TokioCurrent, "tokio-current");
tokio_runtime!(TokioMulti, "tokio-multi");

impl Runtime for Smol {
    const NAME: &'static str = "smol";

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        smol::block_on(future)
    }

    fn spawn<F>(&self, future: F) -> Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let task = smol::spawn(future);
        Box::pin(task)
    }

    fn spawn_to_cancel(&self, future: Handle<()>) -> Box<dyn FnOnce() + Send> {
        let task = smol::spawn(future);
        Box::new(move || drop(task))
    }
}

impl Runtime for Futures {
    const NAME: &'static str = "futures";

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        futures::executor::block_on(future)
    }

    fn spawn<F>(&self, future: F) -> Handle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        Box::pin(
            self.0
                .spawn_with_handle(future)
                .expect("it is not shut down"),
        )
    }

    fn spawn_to_cancel(&self, future: Handle<()>) -> Box<dyn FnOnce() + Send> {
        let (abort, registration) = AbortHandle::new_pair();
        let future = Abortable::new(future, registration);
        self.0.spawn_ok(async {
            let _ = future.await;
        });
        Box::new(move || abort.abort())
    }
}

macro_rules! promises {
    ($($promise:ident)*) => {
        mod on_tokio_current {
            $(#[test]
            fn $promise() {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                memcg_runtimes::$promise(&super::TokioCurrent(runtime));
            })*
        }

        mod on_tokio_multi {
            $(#[test]
            fn $promise() {
                let mut runtime = tokio::runtime::Builder::new_multi_thread();
                let runtime = runtime.worker_threads(3).build().unwrap();
                memcg_runtimes::$promise(&super::TokioMulti(runtime));
            })*
        }

        mod on_smol {
            $(#[test]
            fn $promise() {
                memcg_runtimes::$promise(&super::Smol);
            })*
        }

        mod on_futures {
            $(#[test]
            fn $promise() {
                let pool = super::ThreadPool::builder().pool_size(2).create();
                memcg_runtimes::$promise(&super::Futures(pool.unwrap()));
            })*
        }
    };
}

promises! {
    idle_futures_are_woken_by_a_kill
    two_futures_under_kill_both_end
    high_holds_back_its_own_futures_alone
    a_pause_lets_others_run
    nested_futures_are_charged_where_they_belong
    who_is_ready_delivers
    who_waits_for_room_is_served
    who_is_killed_in_line_makes_way
    who_waits_for_news_is_told
}
