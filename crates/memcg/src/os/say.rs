//! One line to standard error, without the heap; and the end of the process.
//!
//! Invariants: a line is written by one call, and cut off at 511 bytes.
//! Depends on: the kernel's write, by its call; the C library's `abort`.
//! Never: allocates; says whether the line was written.

/// Writes the pieces and a newline to standard error, in one call as far as the kernel lets.
pub fn line(pieces: &[&[u8]]) {
    let mut text = [0u8; 512];
    let mut len = 0;
    for &byte in pieces.iter().copied().flatten().take(text.len() - 1) {
        text[len] = byte;
        len += 1;
    }
    text[len] = b'\n';
    // The call itself: the C library's is a cancellation point, and a thread must not end inside
    // malloc. SAFETY: the buffer is ours and `len + 1` bytes of it are written.
    unsafe { libc::syscall(libc::SYS_write, 2, text.as_ptr(), len + 1) };
}

/// A number as decimal text.
pub struct Decimal([u8; 20], usize);

impl Decimal {
    /// The digits of `n`.
    #[must_use]
    pub fn new(mut n: u64) -> Self {
        let mut text = [0u8; 20];
        let mut at = text.len();
        loop {
            at -= 1;
            text[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                return Self(text, at);
            }
        }
    }

    /// As bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0[self.1..]
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // SAFETY: the bytes from `self.1` on are decimal digits, as `new` wrote them: ASCII is
        // UTF-8.
        unsafe { core::str::from_utf8_unchecked(self.as_bytes()) }
    }
}

/// Ends the process by SIGABRT.
pub fn abort() -> ! {
    // SAFETY: abort has no preconditions and does not return.
    unsafe { libc::abort() }
}

/// An address as people write it: `0x7f…`.
pub struct Hex([u8; 18], usize);

impl Hex {
    /// The digits of `n`.
    #[must_use]
    pub fn new(mut n: u64) -> Self {
        let mut text = [0u8; 18];
        let mut at = text.len();
        loop {
            at -= 1;
            text[at] = b"0123456789abcdef"[(n % 16) as usize];
            n /= 16;
            if n == 0 {
                break;
            }
        }
        text[at - 1] = b'x';
        text[at - 2] = b'0';
        Self(text, at - 2)
    }

    /// As bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0[self.1..]
    }
}
