//! What requests do: a hog's takes much in small pieces, a neighbour's is short and has a right
//! answer. Both let others run.

use memcg::{OomPolicy, fallible};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

const PIECE: usize = 64 << 10;
/// A hog's request keeps what it has for so long.
const HOLD: Duration = Duration::from_millis(40);

/// A limit was in the way of a request that asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused;

/// Lets others run. tokio's own keeps a list, which the first tenant would pay for.
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

/// So many bytes, written to: under `deny` asked for, else taken.
pub fn take(bytes: usize, policy: OomPolicy) -> Result<Vec<u8>, Refused> {
    let mut block = Vec::new();
    if policy == OomPolicy::Deny {
        fallible(|| block.try_reserve_exact(bytes)).map_err(|_| Refused)?;
    }
    block.resize(bytes, 1);
    Ok(block)
}

/// A hog's request: what it found in what it took.
pub async fn grow(bytes: usize, policy: OomPolicy) -> Result<usize, Refused> {
    let nr_pieces = bytes / PIECE;
    let mut pieces = Vec::new();
    if policy == OomPolicy::Deny {
        fallible(|| pieces.try_reserve_exact(nr_pieces)).map_err(|_| Refused)?;
    }
    for _ in 0..nr_pieces {
        pieces.push(take(PIECE, policy)?);
        let_others_run().await;
    }
    // As if it sent what it has.
    tokio::time::sleep(HOLD).await;
    Ok(pieces.iter().map(Vec::len).sum())
}

/// A neighbour's request: whether its answer is right.
pub async fn answer() -> bool {
    let mut words = Vec::new();
    for n in 0..200_u32 {
        words.push((n * 7 % 200).to_string());
        if n % 64 == 0 {
            let_others_run().await;
        }
    }
    words.sort_unstable_by_key(|word| word.parse::<u32>().unwrap_or(u32::MAX));
    words
        .iter()
        .enumerate()
        .all(|(n, word)| *word == n.to_string())
}
