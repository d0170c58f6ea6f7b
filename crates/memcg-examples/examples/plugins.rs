//! A host of plugins in Lua: each has a group with a limit, and its interpreter allocates through
//! `memcg::fallible`, an allocator that says no. A script that takes too much gets Lua's own
//! `not enough memory`, an error that a script can catch; the process and the other plugins go on.
//!
//! `cargo run -p memcg-examples --example plugins [--check]`

use memcg::{ChildDefaults, Event, Limit, Memcg, root};
use mlua_sys as lua;
use std::ffi::{CStr, c_int, c_void};
use std::process::ExitCode;
use std::ptr;

#[global_allocator]
static ALLOCATOR: memcg::Alloc = memcg::Alloc;

/// What a plugin may hold.
const MAX: u64 = 4 << 20;
/// Each plugin runs its script so many times.
const TIMES: usize = 50;

/// How a script ended.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Outcome {
    Answer(i64),
    NoMemory,
    Error(String),
}

/// What an interpreter asks for memory: C's `realloc` and `free` in one.
///
/// # Safety
/// As Lua calls it: `block` is null, or came from here and has not ended.
unsafe extern "C" fn allocate(
    _data: *mut c_void,
    block: *mut c_void,
    _old: usize,
    new: usize,
) -> *mut c_void {
    // SAFETY: Lua gives null, or a block that it has got here and uses no more if this is no null.
    unsafe {
        if new == 0 {
            memcg::fallible::free(block);
            return ptr::null_mut();
        }
        memcg::fallible::realloc(block, new)
    }
}

/// Opens Lua's libraries; called by `lua_pcall`, since it may run out of memory.
///
/// # Safety
/// As Lua calls it.
unsafe extern "C-unwind" fn open_libraries(state: *mut lua::lua_State) -> c_int {
    // SAFETY: Lua calls this with a live state.
    unsafe { lua::luaL_openlibs(state) };
    0
}

/// One plugin: an interpreter, all of it charged to a group.
struct Plugin {
    group: Memcg,
    /// Live until the drop, and used by one thread at a time, which has the plugin.
    state: *mut lua::lua_State,
}

// SAFETY: an interpreter may be used by any thread, one at a time, and only who has the plugin
// does.
unsafe impl Send for Plugin {}

impl Plugin {
    /// A plugin without a script; `None` where not even an interpreter fits.
    fn new(group: Memcg) -> Option<Self> {
        let _entered = group.enter();
        // SAFETY: `allocate` does what Lua asks of an allocator.
        let state = unsafe { lua::lua_newstate(allocate, ptr::null_mut()) };
        if state.is_null() {
            return None;
        }
        let plugin = Self {
            group: group.clone(),
            state,
        };
        // SAFETY: the state is live; a new stack has room for 20 values.
        let status = unsafe {
            lua::lua_pushcfunction(state, open_libraries);
            lua::lua_pcall(state, 0, 0, 0)
        };
        (status == lua::LUA_OK).then_some(plugin)
    }

    /// Runs a script that answers an integer.
    fn run(&mut self, script: &str) -> Outcome {
        let _entered = self.group.enter();
        let state = self.state;
        // SAFETY: the state is live, and what can raise an error runs inside `luaL_loadbufferx` and
        // `lua_pcall`, which catch it. Reading an integer, and a string where there is one, raises
        // none. The stack is left as it was found.
        unsafe {
            let (code, length) = (script.as_ptr().cast(), script.len());
            let mut status =
                lua::luaL_loadbufferx(state, code, length, c"plugin".as_ptr(), c"t".as_ptr());
            if status == lua::LUA_OK {
                status = lua::lua_pcall(state, 0, 1, 0);
            }
            let outcome = if status == lua::LUA_OK {
                Outcome::Answer(lua::lua_tointegerx(state, -1, ptr::null_mut()))
            } else if status == lua::LUA_ERRMEM {
                Outcome::NoMemory
            } else if lua::lua_type(state, -1) == lua::LUA_TSTRING {
                let text = lua::lua_tolstring(state, -1, ptr::null_mut());
                Outcome::Error(CStr::from_ptr(text).to_string_lossy().into_owned())
            } else {
                Outcome::Error(String::from("an error that is no string"))
            };
            lua::lua_settop(state, 0);
            outcome
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // SAFETY: the state is live and ends here.
        unsafe { lua::lua_close(self.state) };
    }
}

/// Counts words; some 100 KiB at a time.
const WORDS: &str = "
    local seen = {}
    for i = 1, 2000 do seen['word ' .. i % 500] = (seen['word ' .. i % 500] or 0) + 1 end
    local n = 0
    for _, count in pairs(seen) do n = n + count end
    return n";
/// Keeps what it makes for ever.
const HOARDS: &str = "
    local kept = {}
    for i = 1, 1e9 do kept[i] = ('x'):rep(1000) .. i end
    return #kept";
/// Asks for much at once.
const LEAPS: &str = "return #('x'):rep(1 << 30)";
/// Knows that memory can end, and goes on with less.
const CATCHES: &str = "
    local ok, why = pcall(function() return #('x'):rep(1 << 30) end)
    assert(not ok and why == 'not enough memory', why)
    return 7";

fn main() -> ExitCode {
    let plugins = root().create("plugins").expect("a new name");
    plugins
        .set_child_defaults(&ChildDefaults::new().max(Limit::bytes(MAX)))
        .expect("a group that is there");
    let all = [
        ("words", WORDS, Outcome::Answer(2000)),
        ("hoards", HOARDS, Outcome::NoMemory),
        ("leaps", LEAPS, Outcome::NoMemory),
        ("catches", CATCHES, Outcome::Answer(7)),
    ];
    // Each plugin on a thread of its own, all at once.
    let is_well = std::thread::scope(|scope| {
        let threads = all.map(|(name, script, expected)| {
            let group = plugins.create(name).expect("a new name");
            scope.spawn(move || try_plugin(&group, script, &expected))
        });
        let ends = threads.map(|thread| thread.join().is_ok_and(|is_well| is_well));
        ends.iter().all(|is_well| *is_well)
    });
    let left = plugins.current();
    println!("{left} bytes left when all plugins are closed");
    if is_well && left == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs a script many times on one interpreter; whether it always ended so, and within its limit.
fn try_plugin(group: &Memcg, script: &str, expected: &Outcome) -> bool {
    let Some(mut plugin) = Plugin::new(group.clone()) else {
        println!("{}: no room for an interpreter", group.path());
        return false;
    };
    for n in 0..TIMES {
        let outcome = plugin.run(script);
        if outcome != *expected {
            println!("{}: {outcome:?}, not {expected:?}, at {n}", group.path());
            return false;
        }
        // An interpreter that ran out of memory is whole: it frees what nothing names any more.
        let next = plugin.run("return 6 * 7");
        if next != Outcome::Answer(42) {
            println!("{}: {next:?} afterwards, at {n}", group.path());
            return false;
        }
    }
    let (peak, refused) = (group.peak(), group.nr_events(Event::Oom));
    let path = group.path();
    println!("{path}: {TIMES} times {expected:?}; at most {peak} bytes, {refused} refusals");
    peak <= MAX && group.nr_events(Event::Debt) == 0
}
