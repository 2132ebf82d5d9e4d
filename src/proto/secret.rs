//! The `ee` secret: one byte 0xEE, 16 key bytes, the host name (spec: protocol 2).

/// A FakeTLS secret: the key that proves a client, and the host whose site strangers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    key: [u8; 16],
    host: Vec<u8>,
}

impl Secret {
    /// The 16 key bytes.
    pub fn key(&self) -> &[u8; 16] {
        &self.key
    }

    /// The host as it stands in the secret and in the SNI, byte for byte; never empty.
    pub fn host(&self) -> &[u8] {
        &self.host
    }
}
