//! The frames that Rust and Python exchange: a length and one JSON object.
//!
//! The length is a little-endian `u32` of bytes. A frame above [`MAX_FRAME_BYTES`] is refused
//! before anything is allocated for it, so a confused peer cannot exhaust the memory.

use std::io::{self, Read, Write};

use serde::Serialize;
use thiserror::Error;

/// The largest frame that is read or written.
pub(crate) const MAX_FRAME_BYTES: u32 = 1 << 30;

/// Why a frame could not be exchanged.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The other side closed the connection before a whole frame came.
    #[error("the Python process ended before it answered")]
    Closed,
    /// The frame is larger than allowed.
    #[error("a message of {bytes} bytes is too large")]
    TooLarge {
        /// The size that the frame announced or would have.
        bytes: u64,
    },
    /// The frame's text is not the JSON that was expected.
    #[error("a message from Python could not be understood")]
    Malformed(#[source] serde_json::Error),
    /// The connection failed.
    #[error("the connection to the Python process failed")]
    Io(#[source] io::Error),
}

/// Writes `message` as one frame.
///
/// # Errors
/// When the message is too large or the other side is gone.
pub fn write_frame(stream: &mut impl Write, message: &impl Serialize) -> Result<(), FrameError> {
    let mut bytes = vec![0_u8; 4];
    serde_json::to_writer(&mut bytes, message).map_err(FrameError::Malformed)?;
    let length = bytes.len() - 4;
    let header = u32::try_from(length).ok().filter(|length| *length <= MAX_FRAME_BYTES);
    let header = header.ok_or(FrameError::TooLarge { bytes: length as u64 })?;
    bytes[..4].copy_from_slice(&header.to_le_bytes());
    stream.write_all(&bytes).map_err(FrameError::Io)
}

/// Reads one frame's JSON text.
///
/// # Errors
/// When the other side is gone or announces too large a frame.
pub fn read_frame(stream: &mut impl Read) -> Result<Vec<u8>, FrameError> {
    let mut header = [0_u8; 4];
    read_exact(stream, &mut header)?;
    let length = u32::from_le_bytes(header);
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::TooLarge { bytes: u64::from(length) });
    }
    let mut body = Vec::new();
    let read = stream.take(u64::from(length)).read_to_end(&mut body).map_err(FrameError::Io)?;
    if read < length as usize { Err(FrameError::Closed) } else { Ok(body) }
}

fn read_exact(stream: &mut impl Read, buffer: &mut [u8]) -> Result<(), FrameError> {
    stream.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => FrameError::Closed,
        _ => FrameError::Io(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut stream = Vec::new();
        write_frame(&mut stream, &serde_json::json!({"type": "hello"})).unwrap();
        assert_eq!(read_frame(&mut stream.as_slice()).unwrap(), br#"{"type":"hello"}"#);
    }

    #[test]
    fn a_cut_frame_is_closed_and_a_huge_one_too_large() {
        assert!(matches!(read_frame(&mut [5, 0, 0, 0, b'{'].as_slice()), Err(FrameError::Closed)));
        assert!(matches!(read_frame(&mut [1, 0].as_slice()), Err(FrameError::Closed)));
        let huge = [255, 255, 255, 255, 0];
        assert!(matches!(read_frame(&mut huge.as_slice()), Err(FrameError::TooLarge { .. })));
    }
}
