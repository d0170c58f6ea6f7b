//! The client side of the control socket.
//!
//! [`directory`] knows where sockets are, [`Client`] asks one of them, [`escape`] writes and reads the words of a
//! request. The protocol is described in docs/internals/protocol.md.

mod connection;
pub mod directory;
mod error;
pub mod escape;

pub use connection::Client;
pub use error::ClientError;
