//! What a group's children begin with, as it was told.

#![forbid(unsafe_code)]

use memcg::testing::group::template::Setting;

/// What children begin with, by setting; `None`: as every group.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Defaults(pub [Option<u64>; Setting::ALL.len()]);
