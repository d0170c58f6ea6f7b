//! Services in which each tenant is a memory control group, small enough to read: see the folder
//! `examples`.
//!
//! `cargo run -p memcg-examples --example http_tenants` serves HTTP. Each example with `--check`
//! tries itself, says what it found, and exits with 0 or 1.

#![forbid(unsafe_code)]
