//! What a file really is, when it is not what it should be; what of it goes into a message.

/// Describes a file of another kind by its first bytes, with the next step; `None` if it resembles nothing known.
pub(crate) fn foreign(head: &[u8]) -> Option<&'static str> {
    const CONVERT: &str = "a zip archive (PyTorch's `.bin`, `.pt`, `.pth`, or a `.npz`), not safetensors; \
        convert it with `safetensors.torch.save_file` in Python, or fetch the `.safetensors` version";
    let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    let starts = |magic: &[u8]| head.starts_with(magic);
    let tag = |name: &[u8]| text.len() >= name.len() && text[..name.len()].eq_ignore_ascii_case(name);
    Some(match head {
        _ if starts(b"version https://git-lfs") => {
            "a Git LFS pointer, not the data; fetch the file with `git lfs pull`"
        }
        _ if starts(b"PK\x03\x04") || starts(b"PK\x05\x06") => CONVERT,
        [0x80, 2..=5, ..] => {
            "a Python pickle (an old PyTorch checkpoint), which is never loaded as it may run code; \
             convert it with `safetensors.torch.save_file` in Python"
        }
        _ if starts(b"\x1F\x8B") => "gzip-compressed; unpack it with `gunzip` first",
        _ if starts(b"GGUF") => {
            "a GGUF model (llama.cpp), not safetensors; fetch the original `.safetensors` files"
        }
        _ if starts(b"\x89HDF\r\n\x1A\n") => "an HDF5 file (Keras), not safetensors; convert it first",
        _ if starts(b"\x93NUMPY") => "a NumPy array; convert it with `safetensors.numpy.save_file` in Python",
        _ if starts(b"\x28\xB5\x2F\xFD") => "compressed with zstd; unpack it first",
        _ if starts(b"\xFD7zXZ\0") => "compressed with xz; unpack it first",
        _ if starts(b"BZh") => "compressed with bzip2; unpack it first",
        _ if head.get(257..262) == Some(b"ustar") => "a tar archive; unpack it first",
        _ if tag(b"<!doctype") || tag(b"<html") || tag(b"<?xml") || tag(b"<head") => {
            "a web page (HTML or XML), probably an error or log-in page saved by a download; download it again"
        }
        _ if head.len() >= 8 && head.iter().all(|&b| b == 0) => {
            "filled with zeros, as an interrupted copy or download leaves it; fetch it again"
        }
        _ => return None,
    })
}

/// The beginning of a text that may be very long.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_header_resembles_nothing_else() {
        assert_eq!(foreign(b"\x10\0\0\0\0\0\0\0{\"a\":1}"), None);
        assert_eq!(foreign(b""), None);
    }

    #[test]
    fn a_web_page_is_recognised_behind_blanks() {
        assert!(foreign(b"\n\n<!DOCTYPE html>").unwrap().contains("web page"));
    }
}
