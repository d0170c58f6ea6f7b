//! The terminal's size.

/// Columns and rows of the terminal behind `fd`; `None` if it is none.
pub fn size(fd: i32) -> Option<(u16, u16)> {
    let mut window = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one `winsize`, which `window` is; a bad fd is answered with an
    // error.
    let answer = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &mut window) };
    (answer == 0).then_some((window.ws_col, window.ws_row))
}
