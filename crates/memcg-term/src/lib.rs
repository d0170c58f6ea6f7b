//! How the commands of memcg tell people things.
//!
//! Invariants: what is printed cannot panic when nobody reads it; text from elsewhere steers no
//! terminal. Depends on: nothing of ours. Never: what is told; that is the commands' affair.

#![forbid(unsafe_code)]

pub mod failure;
pub mod output;
pub mod size;
pub mod table;
