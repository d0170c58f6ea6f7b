//! A program that brings the crate, to be run alone and under `memcg exec`: says whether its heap
//! is accounted, and what a group that it made holds.

use memcg::root;

fn main() {
    let group = root().create("tenant").expect("nobody else makes groups");
    let kept = group.run(|| vec![1u8; 1 << 20]);
    println!(
        "installed: {}, tenant holds {} of {}",
        memcg::is_installed(),
        group.current(),
        kept.len()
    );
}
