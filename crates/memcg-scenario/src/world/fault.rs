//! Why a command did not do what it says.
//!
//! Invariants: an error is a number, not a text.
//! Depends on: the engine's error numbers.
//! Never: says in which line of the scenario; that is known to who runs it.

#![forbid(unsafe_code)]

use memcg::testing::files::FileError;
use memcg::testing::os::errno::Errno;

/// Why a command did not do what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was refused; `fails` can name the error.
    Refused {
        /// The error.
        errno: Errno,
        /// What, where, what to do.
        message: String,
    },
    /// Something is not as expected.
    Wrong(String),
    /// This build cannot do it.
    Lacks {
        /// What was asked for.
        what: String,
        /// What it needs.
        needs: Needs,
    },
}

impl Fault {
    /// A refusal with its error; the message says what, where, what to do.
    pub fn refused(errno: Errno, message: impl Into<String>) -> Fault {
        Fault::Refused {
            errno,
            message: message.into(),
        }
    }

    /// What a command is answered with that needs something this build has not.
    pub fn lacks(what: &str, needs: Needs) -> Fault {
        Fault::Lacks {
            what: what.to_owned(),
            needs,
        }
    }
}

impl From<FileError> for Fault {
    fn from(error: FileError) -> Fault {
        Fault::refused(error.errno, error.message)
    }
}

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Fault::Refused { errno, message } => write!(f, "{errno}: {message}"),
            Fault::Wrong(why) => f.write_str(why),
            Fault::Lacks { what, needs } => write!(
                f,
                "'{what}' needs {}, which this build does not have",
                needs.text()
            ),
        }
    }
}

/// What a build may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// A file of a group that shows swap or compressed memory.
    Swap,
}

impl Needs {
    /// What is lacking, in words.
    pub fn text(self) -> &'static str {
        match self {
            Needs::Swap => "a file of swap",
        }
    }
}
