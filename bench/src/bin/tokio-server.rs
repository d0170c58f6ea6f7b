//! A program for the preload rows: tasks that build requests, pass them through channels, answer,
//! and keep some.

use std::collections::HashMap;
use std::hint::black_box;
use tokio::sync::{mpsc, oneshot};

const CLIENTS: u64 = 64;
const REQUESTS: u64 = 4_000;

struct Request {
    key: String,
    body: Vec<u8>,
    answer: oneshot::Sender<Vec<u8>>,
}

async fn serve(mut requests: mpsc::Receiver<Request>) -> usize {
    let mut kept: HashMap<String, Vec<u8>> = HashMap::new();
    while let Some(request) = requests.recv().await {
        let mut answer = request.body.clone();
        answer.extend_from_slice(request.key.as_bytes());
        if let Some(old) = kept.insert(request.key, request.body) {
            answer.extend_from_slice(&old[..old.len().min(64)]);
        }
        let _ = request.answer.send(answer);
    }
    kept.len()
}

async fn client(id: u64, shards: Vec<mpsc::Sender<Request>>) -> usize {
    let (mut state, mut bytes) = (id * 7919 + 1, 0);
    for i in 0..REQUESTS {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (answer, answered) = oneshot::channel();
        let key = format!("client/{id}/key/{}", (state >> 40) % 512);
        let body = vec![i as u8; 32 + (state >> 33) as usize % 2000];
        let shard = &shards[(state >> 20) as usize % shards.len()];
        if shard.send(Request { key, body, answer }).await.is_err() {
            break;
        }
        bytes += answered.await.map_or(0, |answer| answer.len());
    }
    bytes
}

#[tokio::main]
async fn main() {
    let mut servers = Vec::new();
    let mut shards = Vec::new();
    for _ in 0..8 {
        let (sender, requests) = mpsc::channel(32);
        shards.push(sender);
        servers.push(tokio::spawn(serve(requests)));
    }
    let clients: Vec<_> = (0..CLIENTS)
        .map(|id| tokio::spawn(client(id, shards.clone())))
        .collect();
    drop(shards);
    for client in clients {
        black_box(client.await.unwrap_or(0));
    }
    for server in servers {
        black_box(server.await.unwrap_or(0));
    }
}
