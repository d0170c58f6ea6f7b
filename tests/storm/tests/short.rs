//! The storm, for some seconds: no abort, no wrong answer, exact books. How long neighbours wait is
//! printed and not judged: the machine may be busy.

#![forbid(unsafe_code)]

use std::process::Command;

#[test]
fn noisy_neighbours_under_each_policy_end_nobody_else_and_leave_nothing() {
    let output = Command::new(env!("CARGO_BIN_EXE_memcg-storm"))
        .args(["--seconds", "8"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}{errors}", output.status);
    println!("{text}");
    // Under kill somebody was, and under deny somebody was refused: the storm is one.
    let column = |policy: &str, n: usize| -> u64 {
        let rows = text.lines().map(|line| line.split_whitespace().collect());
        let rows = rows.filter(|row: &Vec<&str>| row.get(1) == Some(&policy));
        rows.map(|row| row[row.len() - n].parse::<u64>().unwrap())
            .sum()
    };
    assert!(column("kill", 1) > 0, "{text}");
    assert!(column("deny", 2) > 0, "{text}");
    assert!(column("default", 3) > 0 && column("debt", 3) > 0, "{text}");
}
