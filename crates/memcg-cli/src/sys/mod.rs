//! System calls the standard library does not offer, behind safe functions.
//!
//! All `unsafe` code of this crate is in this folder. Functions here say what the kernel said and
//! decide nothing.

pub mod files;
pub mod proc_stat;
pub mod process;
pub mod signals;
pub mod socket;
pub mod terminal;
