// SPDX-License-Identifier: GPL-2.0

//! SHA-256: of a file, and shortened as an identity.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use sha2::Digest;
use sha2::Sha256;

/// Hexadecimal digits of an identity.
const DIGITS: usize = 16;

fn hexadecimal(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An identity: the first digits of the SHA-256 of `data`.
pub fn hash(data: &[u8]) -> String {
    let mut digits = hexadecimal(&Sha256::digest(data));
    digits.truncate(DIGITS);
    digits
}

/// The SHA-256 of a file in hexadecimal digits.
pub fn file_sha256(path: &Path) -> Result<String> {
    const PIECE: usize = 1 << 20;
    let reading = || format!("reading {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).with_context(reading)? {
            0 => return Ok(hexadecimal(&hash.finalize())),
            length => hash.update(&piece[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha256sum() {
        assert_eq!(hash(b"abc\n"), "edeaaff3f1774ad2");
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(file_sha256(file.path()).expect("hash"), empty);
    }
}
