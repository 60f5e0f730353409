//! What this host knows about itself: maker, model, serial number, versions.
//!
//! Reads files below a root folder and asks the kernel for its name; nothing is cached, nothing is guessed: a fact that
//! the host does not have is absent. The machine id never leaves this file as it is.
//! Facts: `os-release(5)`, `machine-id(5)`, DMI below `/sys/class/dmi/id`, the device tree below
//! `/sys/firmware/devicetree/base` (`/proc/device-tree` is hidden by the sandbox; the tree in `/sys` is the same).

use std::path::Path;

use sha2::{Digest, Sha256};

/// Longer strings are cut: a fact is a name or a version, not a text.
const CHARACTERS: usize = 256;

/// Larger files are no facts.
const FILE_BYTES: u64 = 64 * 1024;

/// Makes the hash of the machine id this program's own, so that nobody can match it with another program's.
const SERIAL_OF_MACHINE_ID: &[u8] = b"iotdm-agent serial number 1\0";

/// What firmware says where its maker said nothing. Compared without case.
const JUNK: &[&str] = &[
    "to be filled by o.e.m.",
    "to be filled by oem",
    "o.e.m.",
    "oem",
    "default string",
    "default",
    "system manufacturer",
    "system product name",
    "system serial number",
    "system version",
    "serial number",
    "product name",
    "manufacturer",
    "base board serial number",
    "chassis serial number",
    "not specified",
    "not applicable",
    "not available",
    "unspecified",
    "unknown",
    "undefined",
    "none",
    "empty",
    "invalid",
    "n/a",
    "na",
    "type1productconfigid",
    "sku",
    "xxxxxxxx",
    "123456789",
    "0123456789",
];

/// The host's facts, named as the members of the protocol's `deviceInfo`. No member is an empty string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The device tree's serial number, else a hash of the machine id (32 hex digits).
    pub serial_number: Option<String>,
    /// DMI's system vendor.
    pub manufacturer: Option<String>,
    /// DMI's product name, else the device tree's model.
    pub model: Option<String>,
    /// `IMAGE_VERSION` of os-release, else the version of the booted slot's bundle, else `VERSION_ID`.
    pub fw_version: Option<String>,
    /// The architecture and the kernel's release, such as `aarch64 6.1.0-30-arm64`.
    pub hw_version: Option<String>,
}

/// Reads the facts of the host whose root is `root` (`/`, except in tests).
///
/// `hw_version` is the kernel's name ([`kernel`]); `bundle_version` is what RAUC says about the booted slot.
pub fn read(root: &Path, hw_version: Option<String>, bundle_version: Option<String>) -> Facts {
    let dmi = |name: &str| fact(root, &format!("sys/class/dmi/id/{name}"));
    let tree = |name: &str| fact(root, &format!("sys/firmware/devicetree/base/{name}"));
    let release = os_release(root);
    let version = |key: &str| {
        release
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .and_then(|(_, value)| clean(value))
    };
    Facts {
        serial_number: tree("serial-number").or_else(|| serial_of_machine_id(root)),
        manufacturer: dmi("sys_vendor"),
        model: dmi("product_name").or_else(|| tree("model")),
        fw_version: version("IMAGE_VERSION")
            .or_else(|| bundle_version.as_deref().and_then(clean))
            .or_else(|| version("VERSION_ID")),
        hw_version,
    }
}

/// The architecture and the kernel's release, as `uname -mr` says (in the other order).
pub fn kernel() -> Option<String> {
    let name = nix::sys::utsname::uname().ok()?;
    clean(&format!("{} {}", name.machine().to_str()?, name.release().to_str()?))
}

/// A serial number that is this machine's and no other program's: the machine id must stay on the machine
/// (`machine-id(5)`). Absent where the id is not set yet.
fn serial_of_machine_id(root: &Path) -> Option<String> {
    let id = text(root, "etc/machine-id")?.trim().to_ascii_lowercase();
    let proper = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0');
    if !proper {
        return None;
    }
    let hash = Sha256::new()
        .chain_update(SERIAL_OF_MACHINE_ID)
        .chain_update(id.as_bytes())
        .finalize();
    Some(hash[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

fn os_release(root: &Path) -> Vec<(String, String)> {
    let text = text(root, "etc/os-release")
        .or_else(|| text(root, "usr/lib/os-release"))
        .unwrap_or_default();
    let assignment = |line: &str| {
        let (name, value) = line.trim().split_once('=')?;
        (!name.starts_with('#')).then(|| (name.to_owned(), unquote(value)))
    };
    text.lines().filter_map(assignment).collect()
}

/// Takes the quotes off a value as a shell would, as far as os-release(5) allows them.
fn unquote(value: &str) -> String {
    let single = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    if let Some(inner) = single {
        return inner.to_owned();
    }
    let inner = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(value);
    let mut plain = String::new();
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        plain.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    plain
}

fn fact(root: &Path, path: &str) -> Option<String> {
    clean(&text(root, path)?)
}

fn text(root: &Path, path: &str) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(root.join(path))
        .ok()?
        .take(FILE_BYTES)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// One line of printable text, or nothing: device tree strings end in NUL, DMI strings in blanks, junk is junk.
fn clean(raw: &str) -> Option<String> {
    let spaced = raw.replace(|c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER, " ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let line: String = words.join(" ").chars().take(CHARACTERS).collect();
    let telling = line.chars().any(|c| c.is_alphanumeric() && c != '0');
    (telling && !JUNK.contains(&line.to_ascii_lowercase().as_str())).then_some(line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MACHINE_ID: &str = "b08dfa6083e7567a1921a715000001fb";

    /// A host that has these files and no others.
    fn host(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        root
    }

    fn facts(files: &[(&str, &[u8])]) -> Facts {
        read(host(files).path(), None, None)
    }

    #[test]
    fn a_pc_is_known_by_dmi_and_the_hashed_machine_id() {
        let facts = facts(&[
            ("sys/class/dmi/id/sys_vendor", b"Advantech  \n"),
            ("sys/class/dmi/id/product_name", b"UNO-2271G\n"),
            ("etc/machine-id", format!("{MACHINE_ID}\n").as_bytes()),
            ("etc/os-release", b"NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n"),
        ]);
        assert_eq!(facts.manufacturer.as_deref(), Some("Advantech"));
        assert_eq!(facts.model.as_deref(), Some("UNO-2271G"));
        assert_eq!(facts.fw_version.as_deref(), Some("12"));
        let serial = facts.serial_number.unwrap();
        assert_eq!(
            serial, "df584e95b691488bf857834da6d09800",
            "the same machine has the same serial for ever"
        );
        assert_ne!(serial, MACHINE_ID);
    }

    #[test]
    fn a_board_is_known_by_its_device_tree() {
        let facts = facts(&[
            (
                "sys/firmware/devicetree/base/model",
                b"Raspberry Pi Compute Module 4 Rev 1.1\0",
            ),
            ("sys/firmware/devicetree/base/serial-number", b"10000000abcdef01\0"),
            ("etc/machine-id", MACHINE_ID.as_bytes()),
        ]);
        assert_eq!(facts.model.as_deref(), Some("Raspberry Pi Compute Module 4 Rev 1.1"));
        assert_eq!(facts.serial_number.as_deref(), Some("10000000abcdef01"));
        assert_eq!(facts.manufacturer, None);
    }

    #[test]
    fn a_host_that_knows_nothing_says_nothing() {
        assert_eq!(facts(&[]), Facts::default());
    }

    #[test]
    fn junk_is_dropped() {
        let blanks = [0xff, 0xff, 0x00, b'\n'];
        let junk: [&[u8]; 9] = [
            b"To be filled by O.E.M.\n",
            b"TO BE FILLED BY O.E.M.",
            b"Default string\n",
            b"System Product Name",
            b"   \n",
            b"",
            b"0000000",
            b"........",
            &blanks,
        ];
        for bytes in junk {
            let facts = facts(&[
                ("sys/class/dmi/id/sys_vendor", bytes),
                ("sys/class/dmi/id/product_name", bytes),
            ]);
            assert_eq!(facts, Facts::default(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_junk_product_name_leaves_the_word_to_the_device_tree() {
        let facts = facts(&[
            ("sys/class/dmi/id/product_name", b"System Product Name\n"),
            ("sys/firmware/devicetree/base/model", b"Board 7\0"),
        ]);
        assert_eq!(facts.model.as_deref(), Some("Board 7"));
    }

    #[test]
    fn the_firmware_version_is_the_images_then_the_bundles_then_the_distributions() {
        let both: &[(&str, &[u8])] = &[("etc/os-release", b"VERSION_ID=12\nIMAGE_VERSION='2026.11-3'\n")];
        let plain: &[(&str, &[u8])] = &[("usr/lib/os-release", b"# VERSION_ID=11\nVERSION_ID=\"12\"\n")];
        let version =
            |files, bundle: Option<&str>| read(host(files).path(), None, bundle.map(str::to_owned)).fw_version;
        assert_eq!(version(both, Some("1.2")).as_deref(), Some("2026.11-3"));
        assert_eq!(version(plain, Some("1.2")).as_deref(), Some("1.2"));
        assert_eq!(version(plain, Some(" ")).as_deref(), Some("12"));
        assert_eq!(version(plain, None).as_deref(), Some("12"));
        assert_eq!(version(&[], None), None);
    }

    #[test]
    fn a_machine_id_that_is_not_set_makes_no_serial_number() {
        for id in [
            "",
            "uninitialized\n",
            "00000000000000000000000000000000",
            "short",
            "zz8dfa6083e7567a1921a715000001fb",
        ] {
            assert_eq!(facts(&[("etc/machine-id", id.as_bytes())]).serial_number, None, "{id}");
        }
    }

    #[test]
    fn quotes_come_off_as_a_shell_takes_them() {
        for (value, plain) in [
            ("a", "a"),
            ("\"a b\"", "a b"),
            ("'a \\ b'", "a \\ b"),
            (r#""a\"b\$c""#, "a\"b$c"),
            ("", ""),
        ] {
            assert_eq!(unquote(value), plain, "{value}");
        }
    }

    #[test]
    fn a_fact_is_one_line_of_bounded_length() {
        assert_eq!(clean(" a\tb\n c\0").as_deref(), Some("a b c"));
        assert_eq!(clean(&"ä".repeat(1000)).unwrap().chars().count(), CHARACTERS);
    }

    #[test]
    fn the_kernel_names_itself() {
        let told = |option| {
            let output = std::process::Command::new("uname").arg(option).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        assert_eq!(kernel().unwrap(), format!("{} {}", told("-m"), told("-r")));
    }
}
