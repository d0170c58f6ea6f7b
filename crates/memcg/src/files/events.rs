//! What happened to a group.

use super::table::At;
use super::text::key;
use crate::group::events::ALL;

pub(super) fn events(at: &At<'_>, out: &mut String) {
    show(at, false, out);
}

pub(super) fn events_local(at: &At<'_>, out: &mut String) {
    show(at, true, out);
}

fn show(at: &At<'_>, local: bool, out: &mut String) {
    for (event, name) in ALL {
        key(out, name, at.group.nr_events(event, local));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Bench;
    use crate::group::Event;

    #[test]
    fn events_are_counted_below_and_local_ones_are_not() {
        let bench = Bench::new();
        bench.mkdir("/a");
        bench.mkdir("/a/b");
        assert_eq!(
            bench.text("/a", "memory.events"),
            "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\nlate 0\ninherited 0\ndebt 0\n"
        );
        bench.group("/a/b").event(Event::Max);
        bench.group("/a").event(Event::High);
        let count = |path, file, key| bench.value(path, file, key);
        assert_eq!(count("/a", "memory.events", "max"), 1);
        assert_eq!(count("/a", "memory.events.local", "max"), 0);
        assert_eq!(count("/a/b", "memory.events.local", "max"), 1);
        assert_eq!(count("/a/b", "memory.events", "high"), 0);
        assert_eq!(count("/", "memory.events", "high"), 1);
    }
}
