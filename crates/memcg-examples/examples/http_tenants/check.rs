//! `http_tenants --check`: the service asked over loopback. A tenant at its limit gets 507 and 503,
//! the others only 200, and what was held is nothing again at the end.

use memcg::{Event, Memcg};
use std::error::Error;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How often each case is tried.
const TIMES: usize = 5;

/// The status and the body of an answer.
type Answer = (u16, String);

async fn ask(at: SocketAddr, method: &str, path: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(at).await?;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
    let (Some(status), Some(body)) = (status, body) else {
        return Err(format!("{method} {path}: no HTTP: {text:?}").into());
    };
    Ok((status, body.to_owned()))
}

async fn expect(at: SocketAddr, method: &str, path: &str, status: u16, word: &str) -> Result<()> {
    let (got, body) = ask(at, method, path).await?;
    if got == status && body.contains(word) {
        return Ok(());
    }
    Err(format!("{method} {path}: {got} {body:?}, not {status} with {word:?}").into())
}

/// A tenant that asks for 256 KiB sorted, again and again until the other end of the channel says
/// so; how many answers were right. All must be.
fn neighbour(at: SocketAddr, name: &'static str) -> (tokio::sync::oneshot::Sender<()>, Neighbour) {
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let asks = tokio::spawn(async move {
        let mut right = 0;
        while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
            let path = format!("/{name}/sort/256");
            let asked = expect(at, "GET", &path, 200, "32768\n").await;
            asked.map_err(|why| why.to_string())?;
            right += 1;
        }
        Ok(right)
    });
    (stop, asks)
}

type Neighbour = JoinHandle<std::result::Result<usize, String>>;

/// Asks, and says on standard output what came.
pub async fn check(at: SocketAddr, tenants: &Memcg) -> Result<()> {
    let (stop_zeta, zeta) = neighbour(at, "zeta");
    let (stop_umbrella, umbrella) = neighbour(at, "umbrella");
    let mut killed = 0;
    for _ in 0..TIMES {
        expect(at, "GET", "/acme/sort/2048", 200, "262144\n").await?;
        // More than it may ever have.
        expect(at, "GET", "/acme/sort/32768", 507, "/tenants/acme").await?;
        killed += two_at_once(at).await?;
        // What is kept goes above the limit; until it goes the door is closed.
        expect(at, "PUT", "/acme/keep/20480", 200, "over").await?;
        expect(at, "GET", "/acme/sort/1024", 507, "/tenants/acme").await?;
        looks_in(tenants).await?;
        expect(at, "DELETE", "/acme/keep", 200, "").await?;
        expect(at, "GET", "/acme/sort/1024", 200, "131072\n").await?;
    }
    let mut said = format!("acme: 507 at the door, {killed} requests ended with 503; others:");
    for (stop, asks) in [(stop_zeta, zeta), (stop_umbrella, umbrella)] {
        let _ = stop.send(());
        write!(said, " {} answers, all 200", asks.await??)?;
    }
    println!("{said}");
    if killed == 0 {
        return Err(format!("in none of {TIMES} times did two requests meet").into());
    }
    for tenant in tenants.children() {
        is_empty(&tenant).await?;
    }
    let acme = tenants.lookup("acme").ok_or("acme is gone")?;
    if acme.nr_events(Event::OomKill) < killed as u64 {
        return Err("503s that nobody was told to give".into());
    }
    Ok(())
}

/// Two requests of one tenant, which fit alone and not together: where they meet, one of them is told
/// to end. How many were.
async fn two_at_once(at: SocketAddr) -> Result<usize> {
    let path = "/acme/grow/12288";
    let (first, second) = tokio::join!(ask(at, "GET", path), ask(at, "GET", path));
    let answers = [first?, second?];
    let count = |status| answers.iter().filter(|(got, _)| *got == status).count();
    if count(200) + count(503) != 2 || count(200) == 0 {
        return Err(format!("two at once: {answers:?}").into());
    }
    Ok(count(503))
}

/// Asks the process's socket, as `memcg top` does: it shows what a tenant holds.
async fn looks_in(tenants: &Memcg) -> Result<()> {
    let folder = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let folder = folder("MEMCG_DIR").map(PathBuf::from).or_else(|| {
        let runtime = folder("XDG_RUNTIME_DIR")?;
        Some(PathBuf::from(runtime).join("memcg"))
    });
    let user = std::fs::metadata("/proc/self")?.uid();
    let folder = folder.unwrap_or_else(|| PathBuf::from(format!("/tmp/memcg-{user}")));
    let socket = folder.join(format!("{}.sock", std::process::id()));
    let mut stream = BufReader::new(UnixStream::connect(&socket).await?);
    let request = format!("get {}/acme/memory.current\n", tenants.path());
    stream.write_all(request.as_bytes()).await?;
    let (mut status, mut held) = (String::new(), String::new());
    stream.read_line(&mut status).await?;
    stream.read_line(&mut held).await?;
    match held.trim().parse::<u64>() {
        Ok(held) if held >= 20 << 20 => Ok(()),
        _ => Err(format!("the socket says {status:?} {held:?}").into()),
    }
}

/// Waits until a tenant holds nothing: connections end a little after their answers.
async fn is_empty(tenant: &Memcg) -> Result<()> {
    let start = Instant::now();
    while tenant.current() != 0 {
        if start.elapsed() > Duration::from_secs(10) {
            let (path, held) = (tenant.path(), tenant.current());
            return Err(format!("{path}: {held} bytes are left").into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
