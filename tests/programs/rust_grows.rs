//! rust_grows MIB [stay]: takes so much from Rust's global allocator, and looks at what it holds;
//! stays until its standard input ends. As a library: `grow`.

/// Holds `mib` MiB in vectors of 1 MiB, half of which grow step by step, and small boxes; how many
/// of the bytes are as they were written.
#[unsafe(no_mangle)]
pub extern "C" fn grow(mib: usize) -> usize {
    let grown = |n: usize| (0..1 << 20).fold(Vec::new(), |mut v, _| { v.push(n as u8); v });
    let vector = |n: usize| if n % 2 == 0 { vec![n as u8; 1 << 20] } else { grown(n) };
    let vectors: Vec<Vec<u8>> = (0..mib / 2).map(vector).collect();
    let boxes: Vec<Box<[u8; 1024]>> = (0..mib << 9).map(|n| Box::new([n as u8; 1024])).collect();
    let whole = |(n, bytes): (usize, &[u8])| bytes.iter().filter(|&&b| b == n as u8).count();
    let vectors = vectors.iter().map(|v| &v[..]).enumerate().map(whole);
    vectors.sum::<usize>() + boxes.iter().map(|b| &b[..]).enumerate().map(whole).sum::<usize>()
}

#[allow(dead_code)]
fn main() {
    let mib = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    assert_eq!(grow(mib), mib << 20);
    println!("held {mib} MiB: {}", std::fs::read_to_string("/proc/self/comm").unwrap_or_default().trim());
    if std::env::args().nth(2).is_some() {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    }
}
