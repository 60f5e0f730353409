//! Every key there is, and the nearest one to a key that there is not.

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// A string.
    Text,
    /// A string such as `"60s"`, or the number 0.
    Duration,
    /// A string such as `"2GiB"`.
    Size,
    /// `true` or `false`.
    Truth,
    /// A number, with or without a decimal point.
    Number,
    /// A list of strings.
    List,
    /// A table of anything JSON can say.
    Table,
    /// A list of tables, `[[key]]`, which hold these keys.
    Tables(&'static [(&'static str, Holds)]),
}

/// The keys with their sections. `docs/configuration.md` and the shipped `config.toml` name each of them (tested).
pub(super) const KEYS: &[(&str, Holds)] = &[
    ("device.org", Holds::Text),
    ("device.type", Holds::Text),
    ("device.id", Holds::Text),
    ("device.kind", Holds::Text),
    ("service.url", Holds::Text),
    ("service.username", Holds::Text),
    ("service.ca_file", Holds::Text),
    ("service.cert_file", Holds::Text),
    ("service.key_file", Holds::Text),
    ("service.token_file", Holds::Text),
    ("service.keep_alive", Holds::Duration),
    ("service.proxy", Holds::Text),
    ("manage.lifetime", Holds::Duration),
    ("manage.metadata", Holds::Table),
    ("manage.device_info.serialNumber", Holds::Text),
    ("manage.device_info.manufacturer", Holds::Text),
    ("manage.device_info.model", Holds::Text),
    ("manage.device_info.deviceClass", Holds::Text),
    ("manage.device_info.description", Holds::Text),
    ("manage.device_info.fwVersion", Holds::Text),
    ("manage.device_info.hwVersion", Holds::Text),
    ("manage.device_info.descriptiveLocation", Holds::Text),
    ("reboot.enabled", Holds::Truth),
    ("factory_reset.enabled", Holds::Truth),
    ("factory_reset.unit", Holds::Text),
    ("firmware.enabled", Holds::Truth),
    ("firmware.mark_good", Holds::Truth),
    ("firmware.max_size", Holds::Size),
    ("firmware.allow_hosts", Holds::List),
    ("firmware.allow_http", Holds::Truth),
    ("firmware.ca_file", Holds::Text),
    ("firmware.cert_file", Holds::Text),
    ("firmware.key_file", Holds::Text),
    ("firmware.proxy", Holds::Text),
    ("firmware.max_rate", Holds::Size),
    ("firmware.reboot", Holds::Text),
    ("firmware.window", Holds::Text),
    ("firmware.trial.timeout", Holds::Duration),
    ("firmware.trial.units", Holds::List),
    ("firmware.trial.require_service", Holds::Truth),
    ("location.source", Holds::Text),
    ("location.gpsd", Holds::Text),
    ("location.min_interval", Holds::Duration),
    ("location.max_interval", Holds::Duration),
    ("location.min_distance", Holds::Number),
    ("location.decimals", Holds::Number),
    ("location.fixed.latitude", Holds::Number),
    ("location.fixed.longitude", Holds::Number),
    ("diagnostics.journal", Holds::Truth),
    ("diagnostics.priority", Holds::Text),
    ("diagnostics.units", Holds::List),
    ("diagnostics.exclude_units", Holds::List),
    ("diagnostics.message_ids", Holds::List),
    ("diagnostics.max_per_minute", Holds::Number),
    ("diagnostics.redact", Holds::List),
    ("diagnostics.error_code", Holds::Tables(ERROR_CODE)),
    ("state.directory", Holds::Text),
];

/// The keys of one `[[diagnostics.error_code]]`.
const ERROR_CODE: &[(&str, Holds)] = &[
    ("code", Holds::Number),
    ("unit", Holds::Text),
    ("message", Holds::Text),
    ("message_id", Holds::Text),
    ("lasts", Holds::Duration),
];

/// What a name in a file stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A key.
    Key(&'static str, Holds),
    /// A section: keys begin with it.
    Section,
    /// Nothing.
    Unknown,
}

/// Looks up a name with its section, such as `service.url` or `manage.device_info`.
pub(super) fn find(path: &str) -> Found {
    if let Some((key, holds)) = KEYS.iter().find(|(key, _)| *key == path) {
        return Found::Key(key, *holds);
    }
    if KEYS
        .iter()
        .any(|(key, _)| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
    {
        return Found::Section;
    }
    Found::Unknown
}

/// What a person most likely meant by `name` in `section` (empty: at the top of the file).
pub(super) fn hint(section: &str, name: &str) -> Option<String> {
    let mut siblings: Vec<&str> = KEYS
        .iter()
        .filter_map(|(key, _)| {
            if section.is_empty() {
                Some(*key)
            } else {
                key.strip_prefix(section)?.strip_prefix('.')
            }
        })
        .filter_map(|rest| rest.split('.').next())
        .collect();
    siblings.dedup();
    if let Some(nearest) = nearest(name, &siblings) {
        return Some(match section {
            "" => format!("did you mean the section [{nearest}]?"),
            _ => format!("did you mean {nearest}?"),
        });
    }
    let elsewhere = KEYS
        .iter()
        .find_map(|(key, _)| key.strip_suffix(name)?.strip_suffix('.'));
    if let Some(elsewhere) = elsewhere {
        return Some(format!("{name} belongs into the section [{elsewhere}]"));
    }
    Some(match section {
        "" => format!("sections are: {}", siblings.join(", ")),
        _ => format!("[{section}] knows: {}", siblings.join(", ")),
    })
}

/// What a person most likely meant by `name` in a table of [`Holds::Tables`].
pub(super) fn hint_in_table(key: &str, keys: &[(&str, Holds)], name: &str) -> String {
    let names: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
    match nearest(name, &names) {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => format!("[[{key}]] knows: {}", names.join(", ")),
    }
}

/// The candidate that takes the fewest edits, if they are few; or the only one that begins with `name`.
fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let wanted = plain(name);
    let best = candidates
        .iter()
        .min_by_key(|candidate| edits(&wanted, &plain(candidate)))?;
    if edits(&wanted, &plain(best)) <= wanted.chars().count() / 3 {
        return Some(best);
    }
    let mut beginning = candidates
        .iter()
        .filter(|candidate| plain(candidate).starts_with(&wanted));
    match (beginning.next(), beginning.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// The Levenshtein distance in characters.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_key() {
        for (section, name, expected) in [
            ("service", "keepalive", "did you mean keep_alive?"),
            ("service", "user_name", "did you mean username?"),
            ("service", "token", "did you mean token_file?"),
            ("manage.device_info", "serial_number", "did you mean serialNumber?"),
            ("", "devise", "did you mean the section [device]?"),
            ("device", "lifetime", "lifetime belongs into the section [manage]"),
            ("", "url", "url belongs into the section [service]"),
            ("firmware", "allow_host", "did you mean allow_hosts?"),
            (
                "firmware",
                "timeout",
                "timeout belongs into the section [firmware.trial]",
            ),
            ("reboot", "delay", "[reboot] knows: enabled"),
            (
                "",
                "x",
                "sections are: device, service, manage, reboot, factory_reset, firmware, location, diagnostics, state",
            ),
        ] {
            assert_eq!(hint(section, name).unwrap(), expected, "{section} {name}");
        }
    }

    #[test]
    fn edits_are_counted_as_levenshtein_did() {
        for (a, b, n) in [
            ("", "", 0),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("größe", "große", 1),
        ] {
            assert_eq!((edits(a, b), edits(b, a)), (n, n), "{a} {b}");
        }
    }
}
