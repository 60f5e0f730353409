//! A line of JSON that is too long, made short while it comes: its values are cut, its shape stays.
//!
//! journalctl prints an entry as one flat object, whose values are strings, arrays of numbers (bytes), or arrays of both.
//! Their order is arbitrary: the cursor may stand behind a message of a mebibyte.

/// The most that is kept of one value, in bytes of JSON.
const VALUE: usize = 8 * 1024;
/// The most of a whole line. journalctl is asked for a dozen fields.
const LINE: usize = 256 * 1024;
/// The field whose loss is counted.
const COUNTED: &[u8] = b"MESSAGE";
/// The byte behind a backslash comes next, which says how long the escape is.
const KIND: u8 = 5;

/// Takes a line byte by byte.
#[derive(Debug, Default)]
pub(super) struct Shortener {
    kept: Vec<u8>,
    /// The name of the field, as far as it matters.
    name: Vec<u8>,
    in_name: bool,
    in_string: bool,
    /// How many bytes still belong to an escape, or [`KIND`].
    escape: u8,
    /// How deep in arrays.
    depth: u32,
    /// Of the value, in bytes of JSON.
    length: usize,
    skipping: Option<Skipping>,
    cut: u64,
}

/// What is left out.
#[derive(Debug, PartialEq, Eq)]
enum Skipping {
    /// The rest of a string.
    String,
    /// The rest of the array at this depth.
    Array(u32),
}

impl Shortener {
    /// The next bytes of the line, without its end.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.in_string {
                self.within_string(*byte);
            } else {
                self.outside(*byte);
            }
        }
    }

    /// The line, and how many bytes of its message are missing; `None` when even so it is too long.
    pub(super) fn end(self) -> Option<(Vec<u8>, u64)> {
        (self.kept.len() <= LINE).then_some((self.kept, self.cut))
    }

    fn within_string(&mut self, byte: u8) {
        if self.escape > 0 {
            self.escape = match (self.escape, byte) {
                (KIND, b'u') => 4,
                (KIND, _) => 0,
                (digits, _) => digits - 1,
            };
            return self.keep(byte);
        }
        if byte == b'"' {
            self.in_string = false;
            if self.skipping == Some(Skipping::String) {
                self.skipping = None;
            }
            return self.keep(byte);
        }
        let continues = byte & 0b1100_0000 == 0b1000_0000;
        if !self.in_name && self.skipping.is_none() && self.length >= VALUE && !continues {
            self.skipping = Some(Skipping::String);
        }
        if self.skipping == Some(Skipping::String) {
            self.count();
        }
        if byte == b'\\' {
            self.escape = KIND;
        } else if self.in_name && self.name.len() <= COUNTED.len() {
            self.name.push(byte);
        }
        self.keep(byte);
    }

    fn outside(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.in_string = true;
                if self.in_name {
                    self.name.clear();
                }
            }
            b'{' => self.in_name = true,
            b':' => (self.in_name, self.length) = (false, 0),
            b'[' => self.depth += 1,
            b']' => {
                if self.skipping == Some(Skipping::Array(self.depth)) {
                    self.skipping = None;
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b',' if self.depth == 0 => self.in_name = true,
            b',' => {
                if self.skipping.is_none() && self.length >= VALUE {
                    self.skipping = Some(Skipping::Array(self.depth));
                }
                if self.skipping == Some(Skipping::Array(self.depth)) {
                    self.count();
                }
            }
            _ => {}
        }
        self.keep(byte);
    }

    fn count(&mut self) {
        if self.name == COUNTED {
            self.cut += 1;
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.skipping.is_none() && self.kept.len() <= LINE {
            self.kept.push(byte);
            self.length += 1;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn short(line: &str) -> (Value, u64) {
        let mut shortener = Shortener::default();
        shortener.take(line.as_bytes());
        let (line, cut) = shortener.end().unwrap();
        (serde_json::from_slice(&line).unwrap(), cut)
    }

    #[test]
    fn a_message_of_a_mebibyte_is_cut_and_what_stands_behind_it_is_whole() {
        let line = json!({"MESSAGE": "x".repeat(1 << 20), "__CURSOR": "c", "PRIORITY": "3"});
        let (short, cut) = short(&line.to_string());
        assert_eq!((&short["__CURSOR"], &short["PRIORITY"]), (&json!("c"), &json!("3")));
        let kept = short["MESSAGE"].as_str().unwrap().len();
        assert_eq!(kept as u64 + cut, 1 << 20);
        assert!(kept <= VALUE);
    }

    #[test]
    fn an_array_of_bytes_is_cut_between_two_numbers_and_one_of_arrays_at_each_level() {
        let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
        let line = json!({"A": [bytes, "text", bytes], "MESSAGE": bytes, "__CURSOR": "c"});
        let (short, cut) = short(&line.to_string());
        let message = short["MESSAGE"].as_array().unwrap();
        assert_eq!(message.len() as u64 + cut, 1_000_000);
        assert!(message.iter().zip(&bytes).all(|(kept, byte)| kept == *byte));
        assert_eq!(short["A"].as_array().unwrap().len(), 1);
        assert_eq!(short["__CURSOR"], "c");
    }

    #[test]
    fn what_stays_too_long_is_given_up_and_takes_no_memory() {
        let mut shortener = Shortener::default();
        for _ in 0..64 {
            shortener.take(format!("{{\"{}\"", "x".repeat(64 * 1024)).as_bytes());
        }
        assert!(shortener.kept.len() <= LINE + 1);
        assert_eq!(shortener.end(), None);
    }

    /// A value as journalctl prints one.
    fn value() -> impl Strategy<Value = Value> {
        let text = (".{0,40}", 1usize..600).prop_map(|(text, times)| text.repeat(times));
        let bytes = proptest::collection::vec(any::<u8>(), 0..6000);
        let one = prop_oneof![
            text.prop_map(Value::from),
            bytes.prop_map(Value::from),
            Just(Value::Null)
        ];
        prop_oneof![one.clone(), proptest::collection::vec(one, 0..4).prop_map(Value::from)]
    }

    proptest! {
        #[test]
        fn a_shortened_line_has_the_same_fields_and_short_ones_are_untouched(message in value(), other in value()) {
            let line = json!({"MESSAGE": message, "OTHER": other, "__CURSOR": "c"});
            let (short, cut) = short(&line.to_string());
            let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            prop_assert_eq!(names(&short), names(&line));
            prop_assert_eq!(&short["__CURSOR"], "c");
            for name in ["MESSAGE", "OTHER"] {
                let length = short[name].to_string().len();
                prop_assert!(length <= VALUE + 64, "{}", length);
                if line[name].to_string().len() <= VALUE {
                    prop_assert_eq!(&short[name], &line[name]);
                }
            }
            if let (Value::String(whole), Value::String(short)) = (&line["MESSAGE"], &short["MESSAGE"]) {
                prop_assert!(whole.starts_with(short));
                let escaped = |c: char| c.is_ascii_control() || ['"', '\\'].contains(&c);
                let counted = whole.len() as u64 == short.len() as u64 + cut;
                prop_assert!(counted || whole.contains(escaped));
            }
        }
    }
}
