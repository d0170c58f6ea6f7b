//! Random numbers: the same for every peer and every run, drawn before the clock starts.

use crate::measure::table;

/// xorshift64*.
pub struct Random(u64);

impl Random {
    /// Seeds differ by what they are for.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next 64 bits.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Below `n`.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(n)) >> 64) as u64
    }

    /// In 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Log-uniform between the two.
    pub fn size(&mut self, least: usize, most: usize) -> usize {
        let (a, b) = ((least as f64).ln(), (most as f64).ln());
        ((a + (b - a) * self.unit()).exp() as usize).clamp(least, most)
    }
}

/// One operation of a prepared sequence.
#[derive(Clone, Copy)]
pub struct Step {
    /// Which slot.
    pub slot: u32,
    /// Bytes.
    pub size: u32,
    /// Which tenant.
    pub tenant: u32,
}

/// 65,536 steps, gone through again and again.
pub fn steps(seed: u64, slots: u64, tenants: u64, least: usize, most: usize) -> &'static [Step] {
    let mut random = Random::new(seed);
    let all = table::<Step>(1 << 16);
    for step in all.iter_mut() {
        *step = Step {
            slot: random.below(slots) as u32,
            size: random.size(least, most) as u32,
            tenant: random.below(tenants) as u32,
        };
    }
    all
}

/// `count` shuffles of `0..len`, one after the other.
pub fn shuffles(seed: u64, len: usize, count: usize) -> &'static [u16] {
    let mut random = Random::new(seed);
    let all = table::<u16>(len * count);
    for one in all.chunks_mut(len) {
        for (i, place) in one.iter_mut().enumerate() {
            *place = i as u16;
        }
        for i in (1..len).rev() {
            one.swap(i, random.below(i as u64 + 1) as usize);
        }
    }
    all
}
