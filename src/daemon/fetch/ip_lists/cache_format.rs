//! The format of a cached list. A copy ends with its SHA-256, so a damaged one is recognised.

use std::fs::OpenOptions;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;

use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};

use crate::limits::ip_list::{MAX_NETWORKS, Net4, Net6, Networks};

/// Writes a copy: magic, both counts in little endian, the networks as they are in memory, and the
/// SHA-256 of all that.
pub struct CacheEncoder {
    networks: Rc<Networks>,
    stage: EncodeStage,
    hash: Sha256,
}

/// The next part of the copy.
#[derive(Clone, Copy)]
enum EncodeStage {
    Head,
    V4(usize),
    V6(usize),
    Digest,
    Complete,
}

impl CacheEncoder {
    /// A copy of these networks.
    pub fn new(networks: Rc<Networks>) -> Self {
        Self { networks, stage: EncodeStage::Head, hash: Sha256::new() }
    }

    /// The networks of the copy.
    pub fn networks(&self) -> &Rc<Networks> {
        &self.networks
    }

    /// The next bytes of the copy, at most [`PART`]; none = the copy is complete.
    pub fn next(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let (v4, v6) = (self.networks.v4(), self.networks.v6());
        self.stage = match self.stage {
            EncodeStage::Head => {
                out.extend_from_slice(MAGIC);
                out.extend_from_slice(&(v4.len() as u32).to_le_bytes());
                out.extend_from_slice(&(v6.len() as u32).to_le_bytes());
                EncodeStage::V4(0)
            }
            EncodeStage::V4(from) => {
                let next = v4.len().min(from + PART / NET4);
                out.extend_from_slice(v4.get(from..next).unwrap_or_default().as_flattened());
                if next < v4.len() { EncodeStage::V4(next) } else { EncodeStage::V6(0) }
            }
            EncodeStage::V6(from) => {
                let next = v6.len().min(from + PART / NET6);
                out.extend_from_slice(v6.get(from..next).unwrap_or_default().as_flattened());
                if next < v6.len() { EncodeStage::V6(next) } else { EncodeStage::Digest }
            }
            EncodeStage::Digest => {
                out.extend_from_slice(&self.hash.clone().finalize());
                EncodeStage::Complete
            }
            EncodeStage::Complete => return out,
        };
        self.hash.update(&out);
        if out.is_empty() { self.next() } else { out }
    }
}

/// Reads a copy.
///
/// # Errors
/// `InvalidData` when the file is not a copy, or is damaged.
pub fn read(path: &Path) -> io::Result<Networks> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    decode(BufReader::with_capacity(PART, file), found.len())
}

fn decode(from: impl Read, length: u64) -> io::Result<Networks> {
    let mut from = HashingReader { from, hash: Sha256::new() };
    let magic = from.array()?;
    let (v4_count, v6_count) =
        (u32::from_le_bytes(from.array()?), u32::from_le_bytes(from.array()?));
    let wanted =
        HEAD + u64::from(v4_count) * NET4 as u64 + u64::from(v6_count) * NET6 as u64 + DIGEST;
    let most = MAX_NETWORKS as u64;
    // Checked before memory is allocated.
    if magic != *MAGIC || wanted != length || u64::from(v4_count) + u64::from(v6_count) > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut v4 = Vec::with_capacity(v4_count as usize);
    for _ in 0..v4_count {
        v4.push(from.array()?);
    }
    let mut v6 = Vec::with_capacity(v6_count as usize);
    for _ in 0..v6_count {
        v6.push(from.array()?);
    }
    let digest = from.hash.clone().finalize();
    if digest.as_slice() != from.array::<{ DIGEST as usize }>()? {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Networks::new(v4, v6))
}

/// Hashes the bytes that are read.
struct HashingReader<R> {
    from: R,
    hash: Sha256,
}

impl<R: Read> HashingReader<R> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        self.hash.update(bytes);
        Ok(bytes)
    }
}

const MAGIC: &[u8; 13] = b"mtbox list 1\n";
const HEAD: u64 = 13 + 4 + 4;
const NET4: usize = size_of::<Net4>();
const NET6: usize = size_of::<Net6>();
const DIGEST: u64 = 32;
/// Bytes hashed and written per step: a few milliseconds on a small router.
const PART: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(networks: Networks) -> Vec<u8> {
        let mut encoder = CacheEncoder::new(Rc::new(networks));
        let parts = std::iter::repeat_with(|| encoder.next()).take_while(|part| !part.is_empty());
        parts.inspect(|part| assert!(part.len() <= PART)).flatten().collect()
    }

    fn read_back(bytes: &[u8]) -> Option<Networks> {
        decode(bytes, bytes.len() as u64).ok()
    }

    #[test]
    fn a_copy_is_read_back_and_a_damaged_one_is_not() {
        let networks = || Networks::new(vec![[1, 2, 3, 4, 32], [9, 0, 0, 0, 8]], vec![[7; 17]]);
        let bytes = encode(networks());
        assert_eq!(read_back(&bytes), Some(networks()));
        for end in 0..bytes.len() {
            assert_eq!(read_back(&bytes[..end]), None, "cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(read_back(&damaged), None, "flipped at {at}");
        }
        assert_eq!(read_back(&encode(Networks::default())), Some(Networks::default()));
    }

    #[test]
    fn a_long_copy_comes_in_parts() {
        let v4: Vec<Net4> = (0..20_000_u32).map(|n| [9, (n >> 8) as u8, n as u8, 1, 32]).collect();
        let v6: Vec<Net6> = (0..3_000_u32)
            .map(|n| {
                std::array::from_fn(|at| {
                    [0x20, (n >> 8) as u8, n as u8].get(at).copied().unwrap_or(128)
                })
            })
            .collect();
        let networks = || Networks::new(v4.clone(), v6.clone());
        let bytes = encode(networks());
        assert_eq!(bytes.len() as u64, HEAD + 20_000 * 5 + 3_000 * 17 + DIGEST);
        assert_eq!(read_back(&bytes), Some(networks()));
    }
}
