//! The command from the outside: what it asks, prints and exits with.
//!
//! Commands that ask a process meet a small server in this test's own process, which speaks the
//! control socket's protocol. Programs under `memcg exec` are real.

mod cli {
    pub mod folder;
    pub mod program;
    pub mod pty;
    pub mod run;
    pub mod server;

    mod ask;
    mod exec;
    mod exec_aside;
    mod exec_end;
    mod exec_pid;
    mod exec_refused;
    mod files_of_a_program;
    mod lab;
    mod scenarios;
    mod top;
    mod top_live;
    mod usage;
}
