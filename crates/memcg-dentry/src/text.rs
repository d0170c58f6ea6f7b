//! Names, and where symbolic links lead: short ones in place, longer ones in an object of a kmem
//! cache.
//!
//! Invariants: a text does not change. Its length is that of the bytes it was made of.
//! Depends on: `memcg` for objects.
//! Never: a text of more than [`LONGEST`] bytes.

use memcg::{AllocError, Flags, KBytes, SizedCache};

/// Bytes that are kept in place. With them a text is as large as one that is kept elsewhere, and
/// its length.
const IN_PLACE: usize = 30;
/// The longest that is kept; names are no longer.
pub const LONGEST: usize = 255;

/// Up to [`LONGEST`] bytes.
pub enum Text {
    /// In place.
    Short {
        /// How many.
        len: u8,
        /// They, and zeros.
        bytes: [u8; IN_PLACE],
    },
    /// In an object of its own, charged as the dentry is.
    Long {
        /// How many.
        len: u8,
        /// Where.
        object: KBytes,
    },
}

impl Text {
    /// A copy of `bytes`. `None` without room for it, or if it is longer than [`LONGEST`].
    pub fn new(long: &SizedCache, bytes: &[u8], flags: Flags) -> Result<Option<Text>, AllocError> {
        let Ok(len) = u8::try_from(bytes.len()) else {
            return Ok(None);
        };
        if bytes.len() <= IN_PLACE {
            let mut short = [0; IN_PLACE];
            short[..bytes.len()].copy_from_slice(bytes);
            return Ok(Some(Text::Short { len, bytes: short }));
        }
        let mut object = long.alloc_flags(flags)?;
        object[..bytes.len()].copy_from_slice(bytes);
        Ok(Some(Text::Long { len, object }))
    }

    /// No byte.
    pub const EMPTY: Text = Text::Short {
        len: 0,
        bytes: [0; IN_PLACE],
    };

    /// Who pays for the entry has changed: for this as well, if there is room.
    pub fn touch(&self) {
        if let Text::Long { object, .. } = self {
            object.touch();
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Short { len, bytes } => &bytes[..usize::from(*len)],
            Text::Long { len, object } => &object[..usize::from(*len)],
        }
    }
}
