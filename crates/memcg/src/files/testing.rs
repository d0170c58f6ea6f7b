//! An engine of its own with a thread's record, for the tests of this room and of `control`.

use super::{FileError, read, write};
use crate::attach;
use crate::engine::{Engine, Flags};
use crate::group::{Kind, Memcg};
use crate::thread::ThreadRec;

/// See the module.
#[derive(Clone, Copy)]
pub(crate) struct Bench {
    pub engine: &'static Engine,
    pub rec: &'static ThreadRec,
}

impl Bench {
    pub fn new() -> Self {
        let engine = Engine::leaked();
        let rec = engine.tree.threads.join().unwrap().1;
        Self { engine, rec }
    }

    pub fn group(&self, path: &str) -> &'static Memcg {
        let index = self.engine.tree.lookup(path.as_bytes()).unwrap();
        self.engine.tree.memcgs.get(index)
    }

    pub fn mkdir(&self, path: &str) {
        super::mkdir(self.engine, self.rec, path.as_bytes()).unwrap();
    }

    pub fn rmdir(&self, path: &str) -> Result<(), FileError> {
        super::rmdir(self.engine, self.rec, path.as_bytes())
    }

    pub fn read(&self, path: &str, file: &str) -> Result<String, FileError> {
        read(self.engine, self.rec, path.as_bytes(), file.as_bytes())
    }

    /// The text of a file that can be read.
    pub fn text(&self, path: &str, file: &str) -> String {
        self.read(path, file).unwrap()
    }

    /// A value of a flat keyed file.
    pub fn value(&self, path: &str, file: &str, key: &str) -> u64 {
        let text = self.text(path, file);
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{key} in {text}"))
            .parse()
            .unwrap()
    }

    pub fn write(&self, path: &str, file: &str, value: &str) -> Result<(), FileError> {
        write(
            self.engine,
            self.rec,
            path.as_bytes(),
            file.as_bytes(),
            value.as_bytes(),
        )
    }

    pub fn task(&self, path: &str, name: &str, id: u32) -> u32 {
        let _pin = self.engine.tree.threads.epoch.pin(self.rec);
        let group = self.group(path);
        self.engine
            .tree
            .new_task(group, name.as_bytes(), id)
            .unwrap()
    }

    pub fn end(&self, task: u32) {
        let _pin = self.engine.tree.threads.epoch.pin(self.rec);
        self.engine.tree.end_task(task);
    }

    pub fn move_task(&self, task: u32, path: &str) {
        let _pin = self.engine.tree.threads.epoch.pin(self.rec);
        attach::move_task(&self.engine.tree, self.rec, task, self.group(path)).unwrap();
    }

    pub fn charge(&self, tag: u32, bytes: u64, kind: Kind) -> bool {
        self.engine
            .charge(self.rec, tag, bytes, kind, Flags::NOWAIT)
            .is_ok()
    }

    pub fn uncharge(&self, tag: u32, bytes: u64, kind: Kind) {
        self.engine.uncharge(self.rec, tag, bytes, kind);
    }

    /// Takes all stock back, so that sums are what things hold.
    pub fn drain(&self) {
        let _pin = self.engine.tree.threads.epoch.pin(self.rec);
        self.engine.tree.drain(self.rec, self.group("/"));
    }
}
