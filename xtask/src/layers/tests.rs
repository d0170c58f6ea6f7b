//! The checker, checked: planted mistakes are found where they are, and the real tree has none.

use super::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A source tree in a folder of its own.
struct Tree(PathBuf);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("xtask-layers-{}-{n}", std::process::id()));
        for (name, text) in files {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(dir)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is wrong with these files, each given the head it needs; line 2 is the first of its text.
fn wrong(files: &[(&str, &str)]) -> Vec<String> {
    let with_heads: Vec<_> = files
        .iter()
        .map(|(name, text)| (*name, format!("//! head\n{text}")))
        .collect();
    let files: Vec<_> = with_heads
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    let tree = Tree::new(&files);
    check(&tree.0)
        .unwrap()
        .0
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// Whether exactly one thing is wrong, at `at`, and it names `word`.
#[track_caller]
fn assert_wrong(files: &[(&str, &str)], at: &str, word: &str) {
    let found = wrong(files);
    assert!(
        found.len() == 1 && found[0].starts_with(&format!("{at}: ")) && found[0].contains(word),
        "expected one at {at} about {word}: {found:#?}"
    );
}

#[test]
fn the_real_tree_keeps_its_layers() {
    let src = crate::root().join("crates/memcg/src");
    let (violations, summary) = check(&src).unwrap();
    let list: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{summary}\n{}", list.join("\n"));
}

#[test]
fn a_clean_tree_passes() {
    let clean = [
        (
            "lib.rs",
            "pub mod units; mod api; mod group;\npub use api::Alloc; pub use group::{Memcg, cell::Cell as C};",
        ),
        (
            "units.rs",
            "/// see [`crate::api`]\npub struct Limit; // crate::control\nconst S: &str = \"crate::api\";",
        ),
        (
            "group/mod.rs",
            "mod cell;\nuse crate::{units::{self, Limit}, counter as c};\nuse self::cell::Cell;",
        ),
        (
            "group/cell.rs",
            "use super::super::units::Limit;\nuse super::Memcg;\npub(in crate::group) struct Cell;",
        ),
        (
            "counter.rs",
            "use crate::units;\npub(crate) fn f(self_: super::units::Limit) {}",
        ),
        (
            "offline.rs",
            "use crate::group::Memcg;\nimpl X { fn f(&self) { self.y(); crate::units::z() } }",
        ),
        (
            "attach/mod.rs",
            "mod tests { use super::super::units::X; use super::y; }",
        ),
        (
            "control/mod.rs",
            "use crate::{api, files, engine, offline, attach};\nfn f() -> Vec<String> { vec![] }",
        ),
    ];
    assert_eq!(wrong(&clean), Vec::<String>::new());
}

#[test]
fn an_upward_use_is_found_in_every_form() {
    for text in [
        "use crate::group::Memcg;",
        "fn f() { crate::group::f() }",
        "use super::group::Memcg;",
        "use crate::{units::Limit, group::Memcg};",
        "use crate::{units::{A, B}, group};",
        "use super::{units, group::Memcg};",
        "use self::super::group;",
        "macro_rules! m { () => { $crate::group::f() } }",
        "mod inner { use super::super::group::f; }",
        "mod inner { mod more { use super::{super::super::{group}}; } }",
        "#[cfg(test)] mod tests { use crate::group::f; }",
        "pub use crate::group as g;",
        "type T = <crate::group::A as X>::B;",
        "const X: &str = \"a\\\" \"; use crate::group::Y;",
        "fn f<'a>(x: &'a u8) -> char { 'a' } use crate::group::Y;",
    ] {
        assert_wrong(
            &[("counter.rs", text)],
            "counter.rs:2",
            "counter uses group, which is above it",
        );
    }
    let deep = "fn f() {}\n\nuse super::super::engine::x;";
    assert_wrong(
        &[("group/stock.rs", deep)],
        "group/stock.rs:4",
        "group uses engine",
    );
    let deeper = "use super::super::super::api::x;\nuse super::super::cell;\nuse super::mine;";
    assert_wrong(
        &[("group/a/b.rs", deeper)],
        "group/a/b.rs:2",
        "group uses api",
    );
}

#[test]
fn a_sideways_use_is_found() {
    assert_wrong(
        &[("attach/mod.rs", "use crate::offline::x;")],
        "attach/mod.rs:2",
        "sibling offline",
    );
    assert_wrong(
        &[("offline.rs", "\nuse super::attach;")],
        "offline.rs:3",
        "sibling attach",
    );
}

#[test]
fn a_re_export_or_a_macro_is_no_back_door() {
    let lib = (
        "lib.rs",
        "pub use api::{Alloc, scope::Scope as S};\npub use units::Limit;",
    );
    assert_wrong(
        &[lib, ("group.rs", "use crate::Alloc;")],
        "group.rs:2",
        "group uses api (as crate::Alloc)",
    );
    assert_wrong(
        &[lib, ("group.rs", "use crate::{Limit, S};")],
        "group.rs:2",
        "(as crate::S)",
    );
    let logging = (
        "engine.rs",
        "#[macro_export]\nmacro_rules! say { () => {} }",
    );
    assert_wrong(
        &[logging, ("os.rs", "fn f() { crate::say!() }")],
        "os.rs:2",
        "os uses engine",
    );
    assert_wrong(&[("os.rs", "use crate::*;")], "os.rs:2", "crate::*");
    assert_wrong(&[("os.rs", "use crate as c;")], "os.rs:2", "crate::as");
    assert_wrong(&[("os.rs", "use super::*;")], "os.rs:2", "crate::*");
    assert_wrong(
        &[("os.rs", "use crate::nowhere::X;")],
        "os.rs:2",
        "no room's",
    );
    assert_wrong(&[("attic.rs", "")], "attic.rs:1", "attic is no room");
}

#[test]
fn allocating_collections_below_api_are_found_outside_tests() {
    for (text, what) in [
        ("use std::collections::HashMap;", "HashMap"),
        ("fn f(x: &[u8]) { x.to_vec(); }", ".to_vec()"),
        ("fn f() { std::format!(\"x\"); }", "format!"),
        ("struct S(Box<u8>);", "Box"),
        ("extern crate alloc;", "extern crate alloc"),
        ("#[cfg(not(test))]\nfn f() { vec![1]; }", "vec!"),
        ("#[cfg(any(test, unix))] fn f() { vec![1]; }", "vec!"),
        ("#[cfg(test)] use x::{y, z}; struct S(Box<u8>);", "Box"),
        (
            "#[cfg(test)] const A: u8 = { 1 }; struct S(Box<u8>);",
            "Box",
        ),
        ("struct S { #[cfg(test)] a: Vec<u8>, b: Arc<u8> }", "Arc"),
    ] {
        let found = wrong(&[("group.rs", text)]);
        assert!(
            found.len() == 1 && found[0].contains(&format!("{what} allocates")),
            "{text}: {found:?}"
        );
        assert_eq!(wrong(&[("api.rs", text)]), Vec::<String>::new(), "{text}");
    }
    for text in [
        "#[cfg(test)]\n#[allow(x)]\nmod tests { fn f() -> Vec<u8> { vec![] } }",
        "#[cfg(all(test, not(loom)))] fn f() -> String { String::new() }",
        "#[cfg(any(test, loom))] fn f() -> String { String::new() }",
        "#[cfg(loom)] use loom::sync::Arc;",
        "#![cfg(test)] use std::rc::Rc;",
        "fn f() { let format = 1; g(format); x.vec(); }",
        "// alloc-ok: once, at start, on the worker's own thread\nfn f() -> String { String::new() }",
        "struct S(Box<u8>); // alloc-ok: a reason",
    ] {
        assert_eq!(wrong(&[("group.rs", text)]), Vec::<String>::new(), "{text}");
    }
    assert_eq!(
        wrong(&[("group.rs", "// alloc-ok:\nstruct S(Box<u8>);")]).len(),
        1,
        "an excuse needs a reason"
    );
    let apart = [
        ("group/mod.rs", "#[cfg(test)]\nmod tests;"),
        ("group/tests.rs", "struct S(Vec<u8>);"),
    ];
    assert_eq!(wrong(&apart), Vec::<String>::new());
}

#[test]
fn unsafe_must_be_argued() {
    assert_wrong(
        &[("os.rs", "fn f() { unsafe { g() } }")],
        "os.rs:2",
        "SAFETY",
    );
    assert_wrong(
        &[("os.rs", "// why not\nunsafe impl Send for X {}")],
        "os.rs:3",
        "unsafe impl",
    );
    let far = format!(
        "// SAFETY: x\n{}fn f() {{ unsafe {{ g() }} }}",
        "\n".repeat(9)
    );
    assert_wrong(&[("os.rs", &far)], "os.rs:12", "8 lines");
    for text in [
        "// SAFETY: x\nunsafe impl Send for X {}",
        "fn f() { unsafe { /* SAFETY: x */ g() } }",
        "// SAFETY:\n// 1\n// 2\n// 3\n// 4\n// 5\n// 6\n// 7\n// 8\n// 9\nfn f() { unsafe { g() } }",
        "unsafe fn f() {}\nunsafe extern \"C\" { fn g(); }\n#[unsafe(no_mangle)] fn h() {}",
    ] {
        assert_eq!(wrong(&[("os.rs", text)]), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn files_have_a_head_and_an_end() {
    let tree = Tree::new(&[
        ("lib.rs", "// no head\n"),
        ("os.rs", &format!("//! head\n{}", "\n".repeat(600))),
    ]);
    let found: Vec<_> = check(&tree.0)
        .unwrap()
        .0
        .into_iter()
        .map(|v| (v.file, v.line))
        .collect();
    assert_eq!(
        found,
        [(String::from("lib.rs"), 1), (String::from("os.rs"), 601)]
    );
}

/// The circles among these files of one crate, as the names of their files.
fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let mut sources: Vec<_> = files
        .iter()
        .map(|(name, text)| Source::new(Path::new(name), text))
        .collect();
    source::mark_test_files(&mut sources);
    let name = |&at: &usize| sources[at].file.clone();
    circles::find(&sources)
        .iter()
        .map(|circle| circle.files.iter().map(name).collect())
        .collect()
}

#[test]
fn files_that_use_each_other_in_a_circle_are_found() {
    let lib = ("lib.rs", "mod a; mod b; mod c;");
    let two = [
        lib,
        ("a.rs", "use crate::b::B; pub struct A;"),
        (
            "b.rs",
            "fn f() -> super::a::A { super::a::A } pub struct B;",
        ),
        ("c.rs", "use crate::{a::A, b::B};"),
    ];
    assert_eq!(circles(&two), [["a.rs", "b.rs"]]);
    let three = [
        lib,
        ("a.rs", "use crate::b;"),
        ("b.rs", "use crate::c as d;"),
        ("c.rs", "use super::{a::{self}};"),
    ];
    assert_eq!(circles(&three), [["a.rs", "b.rs", "c.rs"]]);
    // Through what the crate passes on.
    let through = [
        (
            "lib.rs",
            "mod a; mod b; pub use b::{B, C as D}; mod e; pub use e::*;",
        ),
        ("a.rs", "use crate::D; pub struct A;"),
        (
            "b.rs",
            "use crate::a::A; use crate::E; pub struct B; pub struct C;",
        ),
        ("e.rs", "pub struct E; use crate::B;"),
    ];
    assert_eq!(circles(&through), [["a.rs", "b.rs", "e.rs"]]);
}

#[test]
fn what_is_no_circle_is_not_told() {
    // A module and its parts are one thing, tests may look anywhere, a row has an end.
    let fine = [
        ("lib.rs", "mod a; mod b;"),
        (
            "a/mod.rs",
            "mod inner; pub use inner::Inner; pub struct Outer;",
        ),
        ("a/inner.rs", "use super::Outer; pub struct Inner;"),
        ("b.rs", "use crate::a::Inner; pub struct B;"),
        ("a/tests.rs", "use crate::b::B;"),
        (
            "c.rs",
            "#[cfg(test)] mod tests { use crate::d::D; } pub struct C;",
        ),
        ("d.rs", "use crate::c::C; pub struct D;"),
    ];
    assert_eq!(circles(&fine), Vec::<Vec<String>>::new());
}
