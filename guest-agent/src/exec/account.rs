//! Users and groups of the guest, from `/etc/passwd` and `/etc/group` (see `passwd(5)`, `group(5)`). A static binary
//! can't ask the name service.

use std::{fs::File, io::Read};

/// More of a file is not read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Whom a command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, `gid` among them.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
    pub(crate) shell: String,
}

impl Account {
    /// The account with this name or number. A number needs no entry, and neither does root.
    pub(crate) fn find(user: &str) -> Option<Self> {
        Self::find_in(user, &read("/etc/passwd"), &read("/etc/group"))
    }

    fn find_in(user: &str, passwd: &str, group: &str) -> Option<Self> {
        let number = user.parse::<u32>().ok();
        let entries = || passwd.lines().filter_map(Self::parse);
        let by_number = || entries().find(|account| number == Some(account.uid));
        let mut account = entries().find(|account| account.name == user).or_else(by_number).or_else(|| {
            let uid = if user == "root" { 0 } else { number? };
            let home = if uid == 0 { "/root" } else { "/" };
            Some(Self {
                name: user.to_owned(),
                uid,
                gid: uid,
                groups: Vec::new(),
                home: home.to_owned(),
                shell: "/bin/sh".to_owned(),
            })
        })?;
        account.groups = vec![account.gid];
        for line in group.lines() {
            let mut fields = line.splitn(4, ':').skip(2);
            let (Some(Ok(gid)), Some(members)) = (fields.next().map(str::parse), fields.next()) else { continue };
            if gid != account.gid && members.split(',').any(|member| member.trim() == account.name) {
                account.groups.push(gid);
            }
        }
        Some(account)
    }

    fn parse(line: &str) -> Option<Self> {
        let [name, _password, uid, gid, _gecos, home, shell] = *line.split(':').collect::<Vec<_>>() else {
            return None;
        };
        let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
        Some(Self {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            groups: Vec::new(),
            home: or(home, "/"),
            shell: or(shell, "/bin/sh"),
        })
    }
}

/// The number of the group with this name.
pub(super) fn group(name: &str) -> Option<u32> {
    group_in(name, &read("/etc/group"))
}

fn group_in(name: &str, group: &str) -> Option<u32> {
    group.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What can't be read has no entries.
        let _ = file.take(MAX_FILE_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\nbroken:x\nagent:x:1000:1000::/home/agent:\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:agent,root\nbroken\nagent:x:1000:agent\nvideo:x:44:other\n";

    #[test]
    fn finds_by_name_and_number_with_groups() {
        let agent = Account::find_in("agent", PASSWD, GROUP).unwrap();
        assert_eq!(
            (agent.uid, agent.gid, agent.home.as_str(), agent.shell.as_str()),
            (1000, 1000, "/home/agent", "/bin/sh")
        );
        assert_eq!(agent.groups, [1000, 10]);
        assert_eq!(Account::find_in("1000", PASSWD, GROUP), Some(agent));
        assert_eq!(Account::find_in("root", PASSWD, GROUP).unwrap().groups, [0, 10]);
    }

    #[test]
    fn finds_groups_by_name() {
        assert_eq!(group_in("video", GROUP), Some(44));
        assert_eq!(group_in("broken", GROUP), None);
        assert_eq!(group_in("tty", GROUP), None);
    }

    #[test]
    fn needs_no_entry_for_root_or_a_number() {
        assert_eq!(Account::find_in("root", "", "").unwrap().uid, 0);
        assert_eq!(Account::find_in("4711", "", "").unwrap().gid, 4711);
        assert_eq!(Account::find_in("nobody", "", ""), None);
        assert_eq!(Account::find_in("", PASSWD, GROUP), None);
    }
}
