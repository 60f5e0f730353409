//! From bytes to lines, in bounded memory whatever the pieces and the lines are.

use super::shorten::Shortener;

/// What is read at once, and the longest line that is taken as it is. A pipe holds as much.
const ROOM: usize = 64 * 1024;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line without its end.
    Whole(&'a [u8]),
    /// A long one, its values cut; and how many bytes of its message are missing.
    Short(Vec<u8>, u64),
    /// One that stays too long.
    TooLong,
}

/// What was read and not handed on yet.
#[derive(Debug)]
pub(super) struct Lines {
    room: Box<[u8]>,
    /// Where in `room` the bytes that wait begin, where they end, and up to where there is no end of a line.
    begin: usize,
    end: usize,
    searched: usize,
    long: Option<Shortener>,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            room: vec![0; ROOM].into_boxed_slice(),
            begin: 0,
            end: 0,
            searched: 0,
            long: None,
        }
    }
}

impl Lines {
    /// Where the next bytes go. Only when [`next`](Self::next) gives nothing more.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.begin > 0 {
            self.room.copy_within(self.begin..self.end, 0);
            (self.end, self.searched, self.begin) = (self.end - self.begin, self.searched - self.begin, 0);
        }
        &mut self.room[self.end..]
    }

    /// This many bytes were put into the space.
    pub(super) fn filled(&mut self, count: usize) {
        self.end = self.room.len().min(self.end + count);
    }

    /// The next line that is complete.
    pub(super) fn next(&mut self) -> Option<Line<'_>> {
        let fresh = &self.room[self.searched..self.end];
        let Some(at) = fresh.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.end;
            if self.long.is_some() || self.end - self.begin == ROOM {
                let long = self.long.get_or_insert_default();
                long.take(&self.room[self.begin..self.end]);
                (self.begin, self.end, self.searched) = (0, 0, 0);
            }
            return None;
        };
        let line = self.begin..self.searched + at;
        (self.begin, self.searched) = (line.end + 1, line.end + 1);
        let line = &self.room[line];
        let Some(mut long) = self.long.take() else {
            return Some(Line::Whole(line));
        };
        long.take(line);
        Some(match long.end() {
            Some((line, cut)) => Line::Short(line, cut),
            None => Line::TooLong,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every line as text, `short` or `-` for one that is too long.
    fn lines<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for mut piece in pieces {
            while !piece.is_empty() {
                let space = lines.space();
                let count = space.len().min(piece.len());
                space[..count].copy_from_slice(&piece[..count]);
                lines.filled(count);
                piece = &piece[count..];
                while let Some(line) = lines.next() {
                    found.push(match line {
                        Line::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                        Line::Short(..) => "short".to_owned(),
                        Line::TooLong => "-".to_owned(),
                    });
                }
            }
        }
        found
    }

    #[test]
    fn a_half_line_waits_for_its_other_half() {
        assert_eq!(
            lines([&b"{\"a\""[..], b":1}\n{", b"}\n\nrest"]),
            ["{\"a\":1}", "{}", ""]
        );
    }

    #[test]
    fn a_line_of_ten_mebibytes_comes_short_one_without_shape_not_at_all_and_the_next_is_read() {
        let piece = vec![b'x'; 64 * 1024];
        let mut pieces: Vec<&[u8]> = vec![b"{\"a\":\""];
        pieces.extend(std::iter::repeat_n(&piece[..], 160));
        pieces.push(b"\"}\n{}\n");
        pieces.extend(std::iter::repeat_n(&piece[..], 160));
        pieces.push(b"\n{}\n");
        assert_eq!(lines(pieces), ["short", "{}", "-", "{}"]);
    }

    proptest! {
        #[test]
        fn the_lines_do_not_depend_on_the_pieces(
            text in proptest::collection::vec(proptest::sample::select(b"ab \n".to_vec()), 0..200),
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
