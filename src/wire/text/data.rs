//! Data lines: dot-stuffed, and closed by a line with a dot (control-spec 2.3).

/// Appends `octets` as data lines. Their line ends become CRLF, and the last line gets one.
pub fn write_data(octets: &[u8], out: &mut Vec<u8>) {
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
}

/// Appends the text that data lines carry, up to the closing line if they have it. Line ends become
/// LF, and the dot before a dot goes; a dot alone before other octets goes too, as in Tor.
pub fn unstuff(data: &[u8], out: &mut Vec<u8>) {
    for line in data.split_inclusive(|&octet| octet == b'\n') {
        if matches!(line, b".\r\n" | b".\n") {
            return;
        }
        let line = line.strip_prefix(b".").unwrap_or(line);
        match line.strip_suffix(b"\r\n") {
            Some(line) => {
                out.extend_from_slice(line);
                out.push(b'\n');
            }
            None => out.extend_from_slice(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unstuffed(data: &[u8]) -> Vec<u8> {
        let mut text = b"before ".to_vec();
        unstuff(data, &mut text);
        text.split_off(b"before ".len())
    }

    #[test]
    fn data_is_unstuffed_up_to_its_closing_line() {
        for (data, text) in [
            (&b"..a\r\n.b\nc\r\n"[..], &b".a\nb\nc\n"[..]),
            (b"a\r\n..\r\n.\r\nb\r\n", b"a\n.\n"),
            (b"a\n.\n.\n", b"a\n"),
            (b"\r\n. \r\n\r.\r\r\n.\r\n", b"\n \n\r.\r\n"),
            (b".\r\n", b""),
            (b"", b""),
        ] {
            assert_eq!(unstuffed(data), text, "{}", data.escape_ascii());
        }
    }

    #[test]
    fn each_is_the_inverse_of_the_other() {
        // Every text of up to seven of these, of which each means something here.
        let mut texts = vec![Vec::new()];
        for _ in 0..7 {
            let with = |text: &Vec<u8>| b".\nx".map(|octet| [&text[..], &[octet]].concat());
            texts = [vec![Vec::new()], texts.iter().flat_map(with).collect()].concat();
        }
        for text in texts {
            let mut data = Vec::new();
            write_data(&text, &mut data);
            let mut lines = text.clone();
            if !matches!(text.last(), None | Some(b'\n')) {
                lines.push(b'\n');
            }
            assert_eq!(unstuffed(&data), lines, "{}", text.escape_ascii());
            let mut again = Vec::new();
            write_data(&lines, &mut again);
            assert_eq!(again, data, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn line_ends_become_those_of_the_protocol() {
        let mut data = Vec::new();
        write_data(b"a\r\nb\n.\rc\r", &mut data);
        assert_eq!(data, b"a\r\nb\r\n..\rc\r\n.\r\n");
    }
}
