//! What answers and downloads imitate: the ServerHello and the certificate flight of the front,
//! and the record timing of a web site. Deterministic: time and randomness are parameters.

pub mod calibrate;
pub mod key_shares;
pub mod page_timing;
pub mod profile;
pub mod shaper;

use crate::mimicry::calibrate::Fit;
use crate::mimicry::key_shares::KeyShares;
use crate::mimicry::profile::Profiles;
use crate::mimicry::shaper::Pace;
use crate::util::drbg::Drbg;

/// What was learned of the fronts, for the answers and downloads to come.
pub struct Mimicry {
    /// What the answer of each front looks like.
    pub profiles: Profiles,
    /// Key shares made in idle rounds.
    pub key_shares: KeyShares,
    /// The pace of downloads that begin now.
    pub pace: Pace,
    /// Learns a better pace in idle rounds.
    pub fit: Fit,
}

impl Mimicry {
    /// Safe defaults for `hosts` fronts.
    pub fn new(hosts: usize, drbg: &mut Drbg) -> Self {
        Self {
            profiles: Profiles::new(hosts, drbg),
            key_shares: KeyShares::default(),
            pace: Pace::default(),
            fit: Fit::default(),
        }
    }

    /// Takes one bounded step of the fit that is under way, if any. New downloads use the pace
    /// that it returns.
    pub fn refine_pace(&mut self) -> Option<Pace> {
        let pace = self.fit.step()?;
        self.pace = pace;
        Some(pace)
    }
}
