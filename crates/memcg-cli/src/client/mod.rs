//! The client side of the control socket.
//!
//! [`socket_folder`] knows where sockets are, [`exec_child`] whose socket a `memcg exec` stands
//! for, [`Client`] asks one of them, [`processes`] finds those that answer; [`escape`] writes and
//! reads the words of a request. The protocol is described in docs/internals/protocol.md.

#![forbid(unsafe_code)]

mod connection;
mod error;
pub mod escape;
pub mod exec_child;
pub mod processes;
pub mod socket_folder;

pub use connection::Client;
pub use error::ClientError;
