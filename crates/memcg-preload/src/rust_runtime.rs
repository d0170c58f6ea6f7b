//! Whether an object in this process carries Rust's runtime, whose allocator cannot be refused: its
//! null aborts the process. Then groups whose policy nobody wrote go over their limits instead.
//!
//! Asked at the start where a group has a limit already, and else where a charge was refused: so a
//! process that never meets a limit never looks. The loader counts what it adds; a refusal looks at
//! that count, and only at objects that are new. So nothing of `dlopen` has to be replaced, and its
//! caller stays the program.
//!
//! An object carries it if its `.comment` names rustc, or if its read-only data has paths of the
//! standard library's sources (`/rustc/…/library/std/src/…`, which stripping leaves). What is read
//! is the object's file; where that cannot be opened, or is another by now, the process's own
//! memory, by a call that survives when the object goes meanwhile.
//!
//! Invariants: an object is read once, [`MOST_BYTES`] of it at most. Found stays found. A refusal
//! stands only after a look at all that can be read and remembered.
//! Depends on: `loaded`.
//! Never: allocates. Never reads while the loader's lock is held, nor says anything while others
//! wait for this thread. Never runs where nothing was refused, but at the start.

mod elf;
mod looking;
mod objects;
mod search;
mod source;

pub use looking::in_child;

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};
use elf::{Elf, constants};
use looking::Looking;
use memcg::internal::malloc::Asks;
use memcg::internal::os::{self, errno};
use memcg::internal::process;
use objects::{Copied, Next, Objects, Walk};
use search::{Searched, search};
use source::{File, read_memory};

/// How much of one object's constants is read: some 0.3 ms a MiB, from the page cache.
const MOST_BYTES: u64 = 16 << 20;
/// How much is read at a time.
const PIECE: usize = 64 << 10;
/// How much of an object's name is said.
const MOST_NAME: usize = 100;

static FOUND: AtomicBool = AtomicBool::new(false);
static IS_SAID: AtomicBool = AtomicBool::new(false);
static STATE: State = State(UnsafeCell::new(Look {
    objects: Objects::new(),
    piece: [0; PIECE],
}));

struct State(UnsafeCell<Look>);
// SAFETY: reached through a `Looking` only, of which there is one at a time.
unsafe impl Sync for State {}

struct Look {
    objects: Objects,
    piece: [u8; PIECE],
}

/// Whether Rust's runtime is in this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Found,
    NotFound,
    /// Another thread looks, and takes long; or this one does, and was interrupted.
    NotInTime,
}

/// Asks, and once more where that was refused and the process turns out to carry Rust's runtime:
/// then the second answer is the one of a process that does. Where it could not be told in time,
/// the second answer is so for this once.
#[inline]
pub fn asked<T>(asks: Asks, ask: impl Fn(Asks) -> T, is_refused: impl Fn(&T) -> bool) -> T {
    // What was asked of a process that was known to carry it is not asked again.
    let was_known = known().is_some();
    let answer = ask(asks);
    if was_known || asks != Asks::Refusable || !is_refused(&answer) {
        return answer;
    }
    again(answer, ask, || {
        // Without a limit that refused there was no memory, which is another matter.
        if process::has_refused() {
            look()
        } else {
            Answer::NotFound
        }
    })
}

/// What `answer`, a refusal, becomes.
#[cold]
fn again<T>(answer: T, ask: impl Fn(Asks) -> T, look: impl FnOnce() -> Answer) -> T {
    match look() {
        Answer::Found => ask(Asks::Refusable),
        Answer::NotFound => answer,
        Answer::NotInTime => ask(Asks::Infallible),
    }
}

/// Looks at the objects that are new since the last look. Finding it is said on standard error.
pub fn look() -> Answer {
    let _errno = errno::keep();
    let Some(mut looking) = Looking::begin() else {
        return known().unwrap_or(Answer::NotInTime);
    };
    // What was found before is said already.
    if let Some(found) = known() {
        return found;
    }
    // SAFETY: `looking` says that this thread is the one that looks.
    let look = unsafe { &mut *STATE.0.get() };
    let answer = look.find(&mut looking);
    if answer != Answer::Found {
        return answer;
    }
    process::set_debt_by_default(true);
    // Release pairs with the Acquire of `known`.
    FOUND.store(true, Ordering::Release);
    let name = Name::of(look.objects.copied());
    drop(looking);
    name.say();
    answer
}

/// Has the loader be left alone over forks. Once.
pub fn install() {
    // SAFETY: plain functions that may run at any fork. The child's is run by the engine's own.
    unsafe {
        libc::pthread_atfork(
            Some(looking::before_fork),
            Some(looking::after_fork_in_parent),
            None,
        )
    };
}

/// What a look has found before.
fn known() -> Option<Answer> {
    // Acquire pairs with the Release of `look`: the engine was told.
    FOUND.load(Ordering::Acquire).then_some(Answer::Found)
}

/// Notes that the program which started this one has said it.
pub fn note_said() {
    IS_SAID.store(true, Ordering::Relaxed);
}

impl Look {
    fn find(&mut self, looking: &mut Looking) -> Answer {
        // This library is of Rust itself, and knows what a refusal is.
        let own = look as *const () as usize;
        let mut walk = Walk::new();
        loop {
            match self.objects.next(looking, &mut walk, own) {
                Next::Object => {}
                Next::NoMore | Next::Full => return Answer::NotFound,
                Next::NotInTime => return Answer::NotInTime,
            }
            match carries_it(self.objects.copied(), &mut self.piece) {
                Searched::Found => return Answer::Found,
                Searched::Nothing => self.objects.note(),
                Searched::Unread => {}
            }
        }
    }
}

fn carries_it(object: &Copied, piece: &mut [u8]) -> Searched {
    let headers = object.headers();
    let searched = object
        .file()
        .filter(|_| object.are_all_headers())
        .and_then(File::open)
        .and_then(|file| {
            let elf = Elf::of(|at, to: &mut [u8]| file.read(at, to), headers)?;
            Some(elf.search(piece, headers, MOST_BYTES))
        });
    if let Some(searched @ (Searched::Found | Searched::Nothing)) = searched {
        return searched;
    }
    let mut left = MOST_BYTES;
    constants(headers).fold(Searched::Nothing, |so_far, part| {
        so_far.or_else(|| {
            let bytes = part.p_filesz.min(left);
            left -= bytes;
            let start = object.address(part);
            search(piece, bytes, |at, to| read_memory(start + at as usize, to))
        })
    })
}

/// The name of an object, without its folder, as far as it is said.
struct Name([u8; MOST_NAME], usize);

impl Name {
    fn of(object: &Copied) -> Self {
        let path = object.path().to_bytes();
        let name = match path.rsplit(|&b| b == b'/').next() {
            None | Some([]) => b"the program",
            Some(name) => name,
        };
        let nr = name.len().min(MOST_NAME);
        let mut text = [0; MOST_NAME];
        text[..nr].copy_from_slice(&name[..nr]);
        Self(text, nr)
    }

    fn say(&self) {
        if IS_SAID.swap(true, Ordering::Relaxed) {
            return;
        }
        os::line(&[
            b"memcg: ",
            &self.0[..self.1],
            b" carries Rust's runtime, which aborts where malloc says no: groups go over their max \
              instead, unless their memory.oom.policy is deny",
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    /// The answer to a refusal where a look answers `looked`: how it was asked last.
    fn last(looked: Answer) -> Option<Asks> {
        again(None, Some, || looked)
    }

    #[test]
    fn a_refusal_stands_only_where_it_is_known_that_the_runtime_is_not_there() {
        assert_eq!(last(Answer::NotFound), None);
        assert_eq!(last(Answer::Found), Some(Asks::Refusable));
        assert_eq!(last(Answer::NotInTime), Some(Asks::Infallible));
    }

    #[test]
    fn while_another_thread_looks_there_is_no_answer() {
        let _alone = looking::tests::alone();
        let looking = Looking::begin().unwrap();
        assert_eq!(look(), Answer::NotInTime);
        let other = std::thread::spawn(look);
        assert_eq!(other.join().unwrap(), Answer::NotInTime);
        drop(looking);
    }

    #[test]
    fn a_file_and_the_memory_of_the_same_object_tell_the_same() {
        let _alone = looking::tests::alone();
        let mut looking = Looking::begin().unwrap();
        let mut objects = Box::new(Objects::new());
        let (mut walk, mut piece) = (Walk::new(), vec![0; PIECE]);
        // The test itself, which is the first, is of Rust; the C library is not.
        assert_eq!(objects.next(&mut looking, &mut walk, 0), Next::Object);
        assert_eq!(carries_it(objects.copied(), &mut piece), Searched::Found);
        while objects.next(&mut looking, &mut walk, 0) == Next::Object {
            let is_c = objects.copied().path().to_bytes().ends_with(b"/libc.so.6");
            if is_c {
                assert_eq!(carries_it(objects.copied(), &mut piece), Searched::Nothing);
                return;
            }
        }
        panic!("no C library");
    }
}
