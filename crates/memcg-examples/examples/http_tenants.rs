//! An HTTP service whose tenants cannot hurt each other: axum on tokio, a group for each tenant.
//!
//! * A request says how much it will need. Where that does not fit it is refused at the door: 507.
//! * A request that takes what it did not announce is told to end when its tenant is full, the
//!   largest of the tenant's requests first: 503. Nobody else notices.
//! * What a tenant keeps may go above its limit: then its door is closed until there is room again.
//!
//! `cargo run -p memcg-examples --example http_tenants [ADDRESS]` serves (`memcg top` looks in),
//! with `--check` it asks itself over loopback instead, and exits with 0 or 1.
//!
//!     GET    /TENANT/sort/KIB   announces what it takes, and answers how many numbers it sorted
//!     GET    /TENANT/grow/KIB   announces nothing
//!     PUT    /TENANT/keep/KIB   keeps so much until the DELETE
//!     DELETE /TENANT/keep

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, put};
use memcg::{ChildDefaults, Limit, Memcg, OomKilled, OomPolicy, in_group, root};
use std::collections::HashMap;
use std::error::Error;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;
use tokio::net::TcpListener;

#[path = "http_tenants/check.rs"]
mod check;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

/// What a tenant may hold.
const MAX: u64 = 16 << 20;
/// Requests take memory in pieces, and let others run between them.
const PIECE: usize = 64 << 10;

struct Service {
    tenants: Memcg,
    /// What tenants keep: the map is the service's, what is in it is theirs.
    kept: Mutex<HashMap<String, Vec<u8>>>,
}

impl Service {
    fn new() -> Result<Arc<Self>, Box<dyn Error>> {
        let tenants = root().get_or_create("tenants")?;
        // Before there is any: each has its limit from its first byte.
        let defaults = ChildDefaults::new()
            .max(Limit::bytes(MAX))
            .oom_policy(OomPolicy::Kill);
        tenants.set_child_defaults(&defaults)?;
        Ok(Arc::new(Self {
            tenants,
            kept: Mutex::default(),
        }))
    }

    fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/{tenant}/sort/{kib}", get(sort))
            .route("/{tenant}/grow/{kib}", get(grow))
            .route("/{tenant}/keep/{kib}", put(keep))
            .route("/{tenant}/keep", delete(forget))
            .with_state(self)
    }

    fn tenant(&self, name: &str) -> Result<Memcg, Refusal> {
        let group = self.tenants.get_or_create(name);
        group.map_err(|why| (StatusCode::BAD_REQUEST, format!("{why}\n")))
    }
}

/// An answer that says no, and why.
type Refusal = (StatusCode, String);

/// Runs a request of a tenant as a task, which can be told to end alone.
async fn answer(tenant: &Memcg, name: &str, work: impl Future<Output = String>) -> Response {
    match in_group(tenant, name, work).await {
        Ok(text) => text.into_response(),
        Err(OomKilled) => {
            let why = format!("{}: out of memory, try again later\n", tenant.path());
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
    }
}

/// As `tokio::task::yield_now`, which keeps a list of who yielded for each of its threads: the
/// first tenant that needs it would pay for that list.
async fn let_others_run() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

async fn sort(
    State(service): State<Arc<Service>>,
    Path((name, kib)): Path<(String, usize)>,
) -> Result<Response, Refusal> {
    let tenant = service.tenant(&name)?;
    let pieces = kib.div_ceil(PIECE >> 10);
    // The door: what the request will take is charged now, or the request is refused.
    let mut announced = tenant
        .try_reserve((pieces * PIECE) as u64)
        .map_err(|full| (StatusCode::INSUFFICIENT_STORAGE, format!("{full}\n")))?;
    let work = async move {
        let mut sorted: Vec<Vec<u64>> = Vec::with_capacity(pieces);
        let mut next = 1u64;
        for _ in 0..pieces {
            // The piece takes the place of what was charged for it. That much less is no growth.
            let less = announced.bytes() - PIECE as u64;
            announced.resize(less).expect("less always fits");
            let mut piece: Vec<u64> = Vec::with_capacity(PIECE / 8);
            for _ in 0..PIECE / 8 {
                next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                piece.push(next);
            }
            piece.sort_unstable();
            sorted.push(piece);
            let_others_run().await;
        }
        assert!(sorted.iter().all(|piece| piece.is_sorted()));
        format!("{}\n", sorted.iter().map(Vec::len).sum::<usize>())
    };
    Ok(answer(&tenant, "sort", work).await)
}

async fn grow(
    State(service): State<Arc<Service>>,
    Path((name, kib)): Path<(String, usize)>,
) -> Result<Response, Refusal> {
    let tenant = service.tenant(&name)?;
    let work = async move {
        let mut pieces = Vec::new();
        while pieces.len() * PIECE < kib << 10 {
            pieces.push(vec![1u8; PIECE]);
            if pieces.len() % 16 == 0 {
                // As if each MiB took a look at a disk.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        format!("{}\n", pieces.iter().map(Vec::len).sum::<usize>())
    };
    Ok(answer(&tenant, "grow", work).await)
}

async fn keep(
    State(service): State<Arc<Service>>,
    Path((name, kib)): Path<(String, usize)>,
) -> Result<Response, Refusal> {
    let tenant = service.tenant(&name)?;
    // Not announced, and no task: it is charged to the tenant, above its limit if need be.
    let bytes = tenant.run(|| vec![1u8; kib << 10]);
    let before = service.kept.lock().unwrap().insert(name, bytes);
    drop(before);
    let state = if tenant.is_over() { "over" } else { "within" };
    Ok(format!("{state} the limit\n").into_response())
}

async fn forget(State(service): State<Arc<Service>>, Path(name): Path<String>) -> StatusCode {
    let kept = service.kept.lock().unwrap().remove(&name);
    match kept {
        Some(_) => StatusCode::OK,
        None => StatusCode::NOT_FOUND,
    }
}

async fn run(address: &str, is_check: bool) -> Result<(), Box<dyn Error>> {
    // With this `memcg top` and `memcg set` work on the service.
    memcg::serve_in_thread()?;
    let service = Service::new()?;
    let listener = TcpListener::bind(address).await?;
    let at: SocketAddr = listener.local_addr()?;
    let serve = axum::serve(listener, service.clone().router());
    if !is_check {
        println!("http://{at}, process {}", std::process::id());
        return Ok(serve.await?);
    }
    let server = tokio::spawn(async move { serve.await });
    let checked = check::check(at, &service.tenants).await;
    server.abort();
    checked
}

#[tokio::main]
async fn main() -> ExitCode {
    let word = std::env::args().nth(1);
    let is_check = word.as_deref() == Some("--check");
    let address = word.filter(|_| !is_check);
    let address = address.unwrap_or_else(|| String::from("127.0.0.1:0"));
    match run(&address, is_check).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("http_tenants: {why}");
            ExitCode::FAILURE
        }
    }
}
