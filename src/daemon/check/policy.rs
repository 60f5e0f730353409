//! May every local user of this host install a bundle? Read from the bus's policy files, because asking would be doing.
//!
//! Reads as much of them as is needed for RAUC: rules for everybody, the last one that fits counts (dbus-daemon(1)).
//! Rules for single users and groups are left out: they are somebody's decision.

use std::path::Path;

/// The policy that leaves it to root and the agent; the package has it among its examples.
pub(super) const CLOSED: &str = include_str!("../../../config/examples/rauc-dbus-policy.conf");

/// Where it goes. The bus reads this folder after the one in which RAUC's own policy is.
pub(super) const CLOSED_PATH: &str = "/etc/dbus-1/system.d/iotdm-agent-rauc.conf";

/// The folders that the bus reads, in its order.
const FOLDERS: [&str; 2] = ["/usr/share/dbus-1/system.d", "/etc/dbus-1/system.d"];

/// What it takes to install a bundle.
const CALL: [(&str, &str); 3] = [
    ("send_destination", "de.pengutronix.rauc"),
    ("send_interface", "de.pengutronix.rauc.Installer"),
    ("send_member", "InstallBundle"),
];

/// Whether everybody may install a bundle, as far as the policy files say.
pub(super) fn open_to_everybody() -> bool {
    let texts = FOLDERS.iter().flat_map(|folder| policies(Path::new(folder)));
    texts.fold(false, |open, text| last_rule(&text).unwrap_or(open))
}

fn policies(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .collect()
}

/// What the last rule for everybody that fits the call says; nothing when none fits.
fn last_rule(policy: &str) -> Option<bool> {
    let (mut said, mut everybody) = (None, false);
    for tag in tags(&without_comments(policy)) {
        let name = tag.split(|c: char| c.is_whitespace() || c == '/').next();
        match name {
            Some("policy") => everybody = attribute(tag, "context").is_some(),
            Some(rule @ ("allow" | "deny")) if everybody && fits(tag) => said = Some(rule == "allow"),
            _ => {}
        }
    }
    said
}

/// A rule fits when it names the destination, and does not name another interface or member.
fn fits(tag: &str) -> bool {
    let names_rauc = attribute(tag, CALL[0].0).is_some();
    names_rauc
        && CALL
            .iter()
            .all(|(key, value)| attribute(tag, key).is_none_or(|said| said == *value))
}

/// The text without its comments, and on one line.
fn without_comments(text: &str) -> String {
    let text = text.replace(['\n', '\r', '\t'], " ");
    let mut parts = text.split("<!--");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |kept, part| {
        kept + part.split_once("-->").map_or("", |(_, rest)| rest)
    })
}

/// What stands between `<` and `>`.
fn tags(text: &str) -> impl Iterator<Item = &str> {
    text.split('<').skip(1).filter_map(|rest| Some(rest.split_once('>')?.0))
}

fn attribute<'a>(tag: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = tag.split_once(&format!(" {key}="))?;
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    rest[1..].split(quote).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules of Debian's rauc-service, on 12 and 13.
    const PACKAGED: &str = r#"<busconfig>
        <policy user="root"><allow own="de.pengutronix.rauc"/></policy>
        <!-- Allow anyone to invoke methods on the interfaces -->
        <policy context="default">
          <allow send_destination="de.pengutronix.rauc"/>
          <allow receive_sender="de.pengutronix.rauc"/>
        </policy></busconfig>"#;

    #[test]
    fn raucs_own_policy_is_open_and_the_one_that_check_prints_closes_it() {
        assert_eq!(last_rule(PACKAGED), Some(true));
        assert_eq!(last_rule(CLOSED), Some(false));
    }

    #[test]
    fn only_rules_for_everybody_and_for_installing_count() {
        let rule = |policy: &str, rule: &str| last_rule(&format!("<policy {policy}>{rule}</policy>"));
        const ALLOW: &str = "<allow send_destination='de.pengutronix.rauc'/>";
        assert_eq!(rule("context=\"default\"", ALLOW), Some(true));
        assert_eq!(rule("context='mandatory'", ALLOW), Some(true));
        assert_eq!(rule("\ncontext=\"default\"", &ALLOW.replace(' ', "\n\t")), Some(true));
        for who in ["user=\"root\"", "group=\"update\"", "at_console=\"true\""] {
            assert_eq!(rule(who, ALLOW), None, "{who}");
        }
        for other in [
            "<!-- <allow send_destination=\"de.pengutronix.rauc\"/> -->",
            "<allow send_destination=\"org.freedesktop.login1\"/>",
            "<allow receive_sender=\"de.pengutronix.rauc\"/>",
            "<allow own=\"de.pengutronix.rauc\"/>",
            "<deny send_destination=\"de.pengutronix.rauc\" send_member=\"Mark\"/>",
            "<allow send_destination=\"de.pengutronix.rauc\" send_interface=\"org.freedesktop.DBus.Properties\"/>",
            "<allow\nsend_destination=\"org.freedesktop.login1\"/>",
            "<allow",
            "<allow send_destination=de.pengutronix.rauc/>",
        ] {
            assert_eq!(rule("context=\"default\"", other), None, "{other}");
        }
        let both = format!("{ALLOW}<deny send_destination=\"de.pengutronix.rauc\" send_member=\"InstallBundle\"/>");
        assert_eq!(rule("context=\"default\"", &both), Some(false), "the last one counts");
    }
}
