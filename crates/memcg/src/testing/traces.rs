//! Which pages a program touches, one after the other: made up, and the same on every run.

use super::common::Random;

/// A kind of trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trace {
    /// All pages in turn, again and again; one touch in eight is of a few that are hot.
    Loop,
    /// Zipf, and now and then a run through pages that are touched once.
    Scan,
    /// Page i with a probability of 1 / i.
    Zipf,
    /// Half of the touches of a tenth of the pages, in no order; half of all others.
    TwoPool,
    /// Zipf over a half of the pages, another half in each phase; they overlap.
    PhaseShift,
}

/// All of them.
pub const TRACES: [Trace; 5] = [
    Trace::Loop,
    Trace::Scan,
    Trace::Zipf,
    Trace::TwoPool,
    Trace::PhaseShift,
];

impl Trace {
    /// `touches` of pages below `pages`. The numbers that come out are spread: neighbours in it are
    /// not neighbours in use.
    #[must_use]
    pub fn touches(self, pages: u32, touches: usize, seed: u64) -> Vec<u32> {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let spread = shuffled(pages, &mut random);
        let all = u64::from(pages);
        let zipf = Zipf::new(pages);
        let half = Zipf::new(pages / 2);
        let mut at = 0u64;
        let mut left_of_scan = 0u64;
        let page = |number: usize| {
            let random = &mut random;
            match self {
                Self::Loop => {
                    if random.next(8) == 0 {
                        return random.next(all / 50 + 1);
                    }
                    at = (at + 1) % all;
                    at
                }
                Self::Scan => {
                    // A run is a sixteenth of the pages long; half of the touches are in runs.
                    let run = all / 16 + 1;
                    if left_of_scan == 0 && random.next(run) == 0 {
                        left_of_scan = run;
                    }
                    if left_of_scan == 0 {
                        return zipf.draw(random) % (all / 2 + 1);
                    }
                    left_of_scan -= 1;
                    at = (at + 1) % (all / 2);
                    all / 2 + at
                }
                Self::Zipf => zipf.draw(random),
                Self::TwoPool => {
                    let hot = all / 10 + 1;
                    match random.next(2) {
                        0 => random.next(hot),
                        _ => hot + random.next(all - hot),
                    }
                }
                Self::PhaseShift => {
                    // Eight phases, each a sixteenth further on.
                    let phase = (number * 8 / touches) as u64;
                    half.draw(random) + phase * all / 16
                }
            }
        };
        let number = (0..touches).map(page);
        number.map(|n| spread[n as usize % spread.len()]).collect()
    }
}

fn shuffled(n: u32, random: &mut Random) -> Vec<u32> {
    let mut all: Vec<u32> = (0..n).collect();
    for i in (1..all.len()).rev() {
        all.swap(i, random.next(i as u64 + 1) as usize);
    }
    all
}

/// Numbers below `n`, the i-th from 1 on with a probability in proportion to 1 / i.
struct Zipf {
    /// Sums of the weights up to each.
    sums: Vec<f64>,
}

impl Zipf {
    fn new(n: u32) -> Self {
        let add = |sum: &mut f64, i: u32| {
            *sum += 1.0 / f64::from(i);
            Some(*sum)
        };
        Self {
            sums: (1..=n.max(1)).scan(0.0, add).collect(),
        }
    }

    fn draw(&self, random: &mut Random) -> u64 {
        let all = self.sums.last().copied().unwrap_or(0.0);
        let at = random.next(1 << 40) as f64 / (1u64 << 40) as f64 * all;
        self.sums.partition_point(|&sum| sum <= at) as u64
    }
}
