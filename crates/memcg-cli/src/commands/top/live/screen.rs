//! The terminal while the view has it: raw, on its alternate screen, and given back whatever
//! happens.
//!
//! A panic of any thread gives it back before it says anything (ratatui's hook); the end of the
//! view does by dropping [`Screen`]. Signals are messages here, so none ends the process between
//! the two.

use crate::sys;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, disable_raw_mode, enable_raw_mode, is_raw_mode_enabled,
};
use ratatui::{DefaultTerminal, Frame};
use std::io::{self, stdout};

/// The terminal, taken.
pub struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    /// Takes it.
    pub fn enter() -> io::Result<Screen> {
        let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore())?;
        Ok(Screen { terminal })
    }

    /// Draws one picture, of the size the terminal has now.
    pub fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(picture).map(drop)
    }

    /// Draws everything anew the next time.
    pub fn clear(&mut self) -> io::Result<()> {
        // Not `Terminal::clear`: it asks the terminal where the cursor is, and the thread of the
        // keys reads the answer.
        let size = self.terminal.size()?;
        self.terminal.resize(size.into())
    }

    /// Gives the terminal back, stops this process until it is continued, and takes the terminal
    /// again.
    pub fn stop(&mut self) -> io::Result<()> {
        self.terminal.show_cursor()?;
        ratatui::try_restore()?;
        sys::process::stop();
        self.again()
    }

    /// Takes the terminal again after a stop, whoever had it and whatever they did with its modes.
    pub fn again(&mut self) -> io::Result<()> {
        let left = !is_raw_mode_enabled()?;
        disable_raw_mode()?;
        enable_raw_mode()?;
        if left {
            execute!(stdout(), EnterAlternateScreen)?;
        }
        self.terminal.hide_cursor()?;
        self.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.terminal.show_cursor();
        // A panic has given it back and printed something: to leave twice would move the cursor
        // into that. Not `restore`, which complains where nobody reads: the terminal may be gone.
        if is_raw_mode_enabled().unwrap_or(true) {
            let _ = ratatui::try_restore();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::{env, fs};

    const CHILD: &str = "MEMCG_TEST_TAKES_THE_TERMINAL";

    /// This test runs itself on a terminal of its own, by `script`, with the terminal's modes
    /// written before and after.
    #[test]
    fn a_panic_gives_the_terminal_back() {
        if env::var_os(CHILD).is_some() {
            let _screen = Screen::enter().expect("a terminal");
            panic!("on purpose");
        }
        let folder = sys::files::make_private_directory(&env::temp_dir()).expect("a folder");
        let name = "commands::top::live::screen::tests::a_panic_gives_the_terminal_back";
        let own = env::current_exe().expect("this test");
        let run = format!(
            "stty -a > before; {CHILD}=1 '{}' --exact {name} --nocapture; stty -a > after",
            own.display()
        );
        let script = Command::new("script")
            .args(["-qec", &run, "typescript"])
            .current_dir(&folder)
            .env("SHELL", "/bin/sh")
            .output();
        assert!(script.expect("there is script").status.success());
        let read =
            |name| fs::read(folder.join(name)).map(|b| String::from_utf8_lossy(&b).into_owned());
        let (before, after) = (
            read("before").expect("modes"),
            read("after").expect("modes"),
        );
        assert!(before.contains(" icanon"), "{before}");
        assert_eq!(before, after);
        let written = read("typescript").expect("what was written");
        assert_eq!(written.matches("\x1b[?1049l").count(), 1, "{written}");
        let left = written.find("\x1b[?1049l").expect("the screen was left");
        assert!(
            written
                .find("\x1b[?1049h")
                .is_some_and(|entered| entered < left)
        );
        // And what the panic said can be read.
        assert!(written[left..].contains("on purpose"), "{written}");
        let _ = fs::remove_dir_all(folder);
    }
}
