//! Root looks as the service's user would, or what it finds would say nothing about the service.
//!
//! Facts: `User=` and `SupplementaryGroups=` of the unit.

use std::ffi::{CStr, CString};

use nix::unistd::{Gid, Group, User, geteuid, getgrouplist, setgid, setgroups, setuid};

/// `User=` of the unit.
const USER: &str = "iotdm-agent";
/// `SupplementaryGroups=` of the unit: what it gives the user beside the groups that the user is a member of.
const SUPPLEMENTARY: [&str; 1] = ["systemd-journal"];

/// Gives up root for the service's user and the groups that the unit gives it. Does nothing for anybody else.
///
/// # Errors
/// In words: there is no such user, or the kernel refuses.
pub fn become_the_service() -> Result<(), String> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let user = match User::from_name(USER) {
        Ok(Some(user)) => user,
        Ok(None) => {
            return Err(format!(
                "there is no user {USER}: install the package, or run check as the user that runs the agent"
            ));
        }
        Err(error) => return Err(format!("the user {USER} cannot be looked up: {error}")),
    };
    let name = CString::new(USER).map_err(|error| error.to_string())?;
    groups(&name, user.gid)
        .and_then(|groups| setgroups(&groups))
        .and_then(|()| setgid(user.gid))
        .and_then(|()| setuid(user.uid))
        .map_err(|error| format!("becoming the user {USER} failed: {error}"))
}

fn groups(user: &CStr, gid: Gid) -> nix::Result<Vec<Gid>> {
    let mut groups = getgrouplist(user, gid)?;
    for name in SUPPLEMENTARY {
        // Where there is no such group the unit does not start, and systemd says so.
        groups.extend(Group::from_name(name)?.map(|group| group.gid));
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn check_has_the_user_and_the_groups_of_the_unit() {
        let unit = include_str!("../../../systemd/iotdm-agent.service");
        let set = |key: &str| -> Vec<&str> {
            let lines = unit
                .lines()
                .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            lines.flat_map(str::split_whitespace).collect()
        };
        assert_eq!(set("User"), [USER]);
        assert_eq!(set("SupplementaryGroups"), SUPPLEMENTARY);
        assert!(set("Group").is_empty(), "it would take the place of the user's own");
        let nobody = User::from_name("nobody").unwrap().unwrap();
        let journal = Group::from_name("systemd-journal").unwrap().unwrap();
        let groups = groups(c"nobody", nobody.gid).unwrap();
        assert!(
            groups.contains(&nobody.gid) && groups.contains(&journal.gid),
            "{groups:?}"
        );
    }
}
