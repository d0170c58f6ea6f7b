//! Waits for room, events, levels and last tasks.

use super::{Handle, MIB, Runtime, group, sleep, until, yield_now};
use memcg::{Event, Limit, OomKilled, WaitError, in_group};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Futures that each need a part of a full tenant are all served, within the limit, whoever goes
/// early.
pub fn who_waits_for_room_is_served<R: Runtime>(runtime: &R) {
    let tenant = group::<R>("room");
    tenant.set_max(Limit::bytes(MIB)).unwrap();
    let most = Arc::new(AtomicU64::new(0));
    let all: Vec<_> = (0..64u64)
        .map(|n| {
            let request = tenant.create(format!("r{n}")).unwrap();
            let (most, tenant) = (most.clone(), tenant.clone());
            runtime.spawn(async move {
                let bytes = MIB / 8 * (1 + n % 5);
                for _ in 0..4 {
                    let held = request.reserve(bytes, None).await.unwrap();
                    most.fetch_max(tenant.usage().current, Ordering::Relaxed);
                    yield_now().await;
                    assert_eq!(held.bytes(), bytes);
                }
            })
        })
        .collect();
    let there = Arc::new(());
    let cancel: Vec<_> = (0..8)
        .map(|_| {
            let (tenant, there) = (tenant.clone(), there.clone());
            let idle: Handle<()> = Box::pin(async move {
                // Goes last.
                let _there = there;
                let _held = tenant.reserve(MIB, None).await;
                pending::<()>().await;
            });
            runtime.spawn_to_cancel(idle)
        })
        .collect();
    runtime.block_on(async {
        sleep(Duration::from_millis(5)).await;
        for cancel in cancel {
            cancel();
        }
        for served in all {
            served.await;
        }
        // Runtimes drop what is cancelled some time later.
        until(|| Arc::strong_count(&there) == 1).await;
        until(|| tenant.current() == 0).await;
    });
    assert!(most.load(Ordering::Relaxed) <= MIB);
    assert!(tenant.try_reserve(MIB).is_ok(), "nobody stands in line");
}

/// A future that waits for room and is killed leaves the line; the next is served.
pub fn who_is_killed_in_line_makes_way<R: Runtime>(runtime: &R) {
    let tenant = group::<R>("line");
    tenant.set_max(Limit::bytes(MIB)).unwrap();
    let request = tenant.create("request").unwrap();
    let held = tenant.try_reserve(MIB / 2).unwrap();
    let asks = request.clone();
    let killed = runtime.spawn(in_group(&request, "waits", async move {
        asks.reserve(MIB, None).await.map(drop)
    }));
    runtime.block_on(async {
        // It stands in line: the door is closed.
        until(|| tenant.try_reserve(8).is_err()).await;
        let small = tenant.clone();
        let next = runtime.spawn(async move { small.reserve(MIB / 4, None).await.map(drop) });
        request.kill();
        assert_eq!(killed.await, Err(OomKilled));
        assert_eq!(next.await, Ok(()));
        let late = tenant.reserve(MIB, Some(Duration::from_millis(20))).await;
        assert!(matches!(late, Err(WaitError::TimedOut(_))), "{late:?}");
    });
    drop(held);
}

/// A server that is told of events, of a level, and of the end of a tenant's last request.
pub fn who_waits_for_news_is_told<R: Runtime>(runtime: &R) {
    let tenant = group::<R>("news");
    tenant.set_max(Limit::bytes(4 * MIB)).unwrap();
    let (mut events, mut watch) = (tenant.events(), tenant.watch(Limit::bytes(2 * MIB)));
    let asks = tenant.clone();
    let request = runtime.spawn(in_group(&tenant, "request", async move {
        sleep(Duration::from_millis(20)).await;
        let held = asks.try_reserve(3 * MIB).unwrap();
        sleep(Duration::from_millis(20)).await;
        assert!(asks.try_reserve(3 * MIB).is_err());
        sleep(Duration::from_millis(20)).await;
        drop(held);
    }));
    runtime.block_on(async {
        assert!(watch.crossed().await);
        let mut refusals = 0;
        while refusals == 0 {
            refusals += events.next().await.unwrap().since(Event::Max);
        }
        request.await.unwrap();
        tenant.emptied().await;
        tenant.remove().unwrap();
        while events.next().await.is_some() {}
        assert!(!watch.crossed().await);
    });
}
