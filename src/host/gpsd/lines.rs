//! From bytes to lines, of which none may be longer than a limit: pure, whatever the pieces are in which they come.

/// The longest line that is taken, in bytes. gpsd's own limit is 10,240 (gpsd_json(5)), and it has grown before.
pub(super) const LONGEST: usize = 64 * 1024;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line without its end; never empty.
    Whole(&'a [u8]),
    /// A line that passed [`LONGEST`]: told once, when it does. The rest of it is thrown away.
    TooLong,
}

/// The beginning of a line that has not ended yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
    skipping: bool,
}

impl Lines {
    /// Takes the next bytes and hands on what they complete.
    pub(super) fn take(&mut self, mut bytes: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.append(&bytes[..end], &mut each);
            bytes = &bytes[end + 1..];
            let line = self.begun.trim_ascii();
            if !line.is_empty() {
                each(Line::Whole(line));
            }
            self.begun.clear();
            self.skipping = false;
        }
        self.append(bytes, &mut each);
    }

    fn append(&mut self, bytes: &[u8], each: &mut impl FnMut(Line<'_>)) {
        if self.skipping {
            return;
        }
        if self.begun.len() + bytes.len() > LONGEST {
            self.skipping = true;
            self.begun = Vec::new();
            each(Line::TooLong);
        } else {
            self.begun.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every line as text, and `-` for one that is too long.
    fn lines<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.take(piece, |line| {
                found.push(match line {
                    Line::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                    Line::TooLong => "-".to_owned(),
                });
            });
            assert!(lines.begun.capacity() <= 2 * LONGEST, "{}", lines.begun.capacity());
        }
        found
    }

    #[test]
    fn a_half_line_waits_for_its_other_half_and_an_empty_one_is_none() {
        assert_eq!(
            lines([&b"{\"a\""[..], b":1}\r", b"\n\r\n\n{}\nrest"]),
            ["{\"a\":1}", "{}"]
        );
    }

    #[test]
    fn a_line_of_ten_mebibytes_is_told_once_takes_no_memory_and_the_next_is_read() {
        let piece = vec![b'x'; 64 * 1024];
        let mut pieces: Vec<&[u8]> = vec![&piece; 160];
        pieces.push(b"x\n{}\n");
        assert_eq!(lines(pieces), ["-", "{}"]);
    }

    proptest! {
        #[test]
        fn the_lines_do_not_depend_on_the_pieces(
            text in proptest::collection::vec(proptest::sample::select(b"ab \r\n".to_vec()), 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..10),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|ends| &text[ends[0]..ends[1]]);
            prop_assert_eq!(lines(pieces), lines([&text[..]]));
        }
    }
}
