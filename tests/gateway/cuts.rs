//! A factory reset that is cut at each step from the 202 to the report's end: the agent gets a SIGKILL, or the power goes.
//! Whatever is cut, the files are gone and that is told once, or it did not happen and that is told; and the device is
//! managed again and does not do the same request twice.
//!
//! It is held at its steps by what an integrator could have there, too: drop-ins, a mkfs of one's own in the PATH, a
//! polkit that does not answer, a link that is silent, a SIGSTOP. What lies between two system calls of the wipe is cut in `tests/wipe`;
//! two of those places are made here as they lie on the disk, for what the next boot and the agent make of them.

use crate::harness::SUITES;
use crate::reset::{MANY, RESET, assert_reset, fill, laid_out, stands_still};
use crate::site::Site;
use crate::wire::Wire;

/// How far a reset is when it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// It is on the disk that it is accepted, and systemd was not asked.
    Accepted,
    /// systemd is asked, and there is no wish yet.
    Asked,
    /// The wish is there, and the host is up.
    Wished,
    /// The next boot: mkfs has begun to write.
    Formatting,
    /// The wipe has not changed anything.
    Begun,
    /// Some of the files are gone.
    Wiping,
    /// All are gone, and there is no report yet.
    Wiped,
    /// The report is there, and so is the wish.
    Reported,
    /// The agent has read the report and noted what it tells, it has told nothing, and the report is there.
    Read,
}

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Agent,
    Wipe,
    Power,
}

use At::*;
use Cut::*;
use End::*;

/// What has become of it in the end.
#[derive(Debug, Clone, Copy)]
enum End {
    /// All is wiped; so many boots have worked on it.
    Complete(u32),
    /// It was begun and is not complete, with these words.
    NotComplete(&'static str),
    /// It did not happen, with these words.
    DidNotHappen(&'static str),
}

/// A reset, where it is cut, and its end.
type Row = (&'static str, &'static [(At, Cut)], End);

const ROWS: [Row; 5] = [
    (
        "accepted",
        &[(Accepted, Power)],
        DidNotHappen("the host rebooted before systemd was asked for it"),
    ),
    (
        "asked",
        &[(Asked, Power)],
        DidNotHappen("no report of what was wiped is there"),
    ),
    (
        "to-the-wipe",
        &[
            (Accepted, Agent),
            (Asked, Agent),
            (Wished, Agent),
            (Wished, Power),
            (Begun, Power),
            (Wiping, Power),
            (Read, Agent),
        ],
        Complete(3),
    ),
    (
        "to-the-report",
        &[(Formatting, Power), (Wiped, Power), (Reported, Power), (Read, Power)],
        Complete(4),
    ),
    // nobody tries it again: the boot goes on without it
    (
        "wipe",
        &[(Wiping, Wipe)],
        NotComplete("no report of what was wiped is there"),
    ),
];

/// What makes a reset stand still at the steps that /data/hold names, at each once and for ever.
const HOLDS: &str = r#"
mkdir -p /etc/hold/bin
cat >/etc/hold/at <<'END'
#!/bin/sh
grep -qx "$1" /data/hold || exit 0
sed -i "/^$1$/d" /data/hold
echo "$1" >/data/held
exec sleep infinity
END
cat >/etc/hold/accepted <<'END'
#!/bin/sh
cd /var/lib/iotdm-agent
# in the newer of the two copies
is_accepted() { grep -q '"phase":"accepted"' $(ls -t state.[ab] | head -n 1); }
until is_accepted; do :; done
systemctl kill -s STOP iotdm-agent
is_accepted && echo Accepted >/data/held
END
cat >/etc/hold/bin/mkfs.ext4 <<'END'
#!/bin/sh
for device; do :; done
if grep -qx Formatting /data/hold; then
    dd if=/dev/zero of="$device" bs=64k count=1 conv=notrunc
    /etc/hold/at Formatting
fi
exec /usr/sbin/mkfs.ext4 "$@"
END
cat >/etc/hold/before-the-wipe <<'END'
#!/bin/sh
cp -p /var/lib/iotdm-agent/factory-reset /data/wish
exec /etc/hold/at Begun
END
cat >/etc/hold/after-the-wipe <<'END'
#!/bin/sh
cd /var/lib/iotdm-agent
cp -p factory-reset.report /data/report
if grep -qx Wiped /data/hold; then
    rm factory-reset.report
    cp -p /data/wish factory-reset
    exec /etc/hold/at Wiped
fi
if grep -qx Reported /data/hold; then
    cp -p /data/wish factory-reset
    exec /etc/hold/at Reported
fi
END
chmod 755 /etc/hold/* /etc/hold/bin/*
drop_in() { mkdir -p /etc/systemd/system/$1.service.d; cat >/etc/systemd/system/$1.service.d/hold.conf; }
drop_in iotdm-agent-factory-reset-reboot <<'END'
[Service]
ExecStartPre=+/etc/hold/at Wished
END
drop_in iotdm-agent-format <<'END'
[Service]
Environment=PATH=/etc/hold/bin:/usr/sbin:/usr/bin:/sbin:/bin
ReadWritePaths=/data
END
drop_in iotdm-agent-wipe <<'END'
[Service]
ExecStartPre=+/etc/hold/before-the-wipe
ExecStartPost=+/etc/hold/after-the-wipe
END
systemctl daemon-reload
: >/data/hold
"#;

impl At {
    /// Whether it is in a later boot than the request.
    fn is_later(self) -> bool {
        !matches!(self, Accepted | Asked | Wished)
    }
}

impl Site {
    /// From now on a reset stands still there.
    fn hold(&self, at: At) {
        match at {
            Accepted => {
                // it waits 5 s for the 202 to be acknowledged
                self.gateway.hush();
                self.gateway
                    .sh("systemd-run --quiet --collect -p RuntimeMaxSec=60 /etc/hold/accepted");
            }
            Read => self.gateway.hush(),
            Asked => drop(self.gateway.sh("systemctl start polkit; systemctl kill -s STOP polkit")),
            Wiping => stands_still(self),
            Wished | Formatting | Begun | Wiped | Reported => {
                drop(self.gateway.sh(&format!("echo {at:?} >>/data/hold")));
            }
        }
    }

    /// Waits until a reset does.
    fn wait_until(&self, at: At) {
        let line = match at {
            // in the newer of the two copies
            Asked => "cd /var/lib/iotdm-agent && test ! -e factory-reset &&
                grep -q '\"phase\":\"starting\"' $(ls -t state.[ab] | head -n 1)"
                .to_owned(),
            Wiping => "test -e /data/stopped".to_owned(),
            Read => "systemctl is-active -q iotdm-agent && test ! -e /var/lib/iotdm-agent/factory-reset.report".into(),
            Accepted | Wished | Formatting | Begun | Wiped | Reported => {
                format!("test \"$(cat /data/held)\" = {at:?}")
            }
        };
        self.gateway.wait(&format!("the reset is {at:?}"), || {
            self.gateway.exec(&["sh", "-c", &line]).status.success()
        });
        if at == Read {
            // as it lies there when the agent is cut before it can remove it
            self.gateway
                .sh("cp -p /data/report /var/lib/iotdm-agent/factory-reset.report");
        }
    }

    fn cut(&self, at: At, cut: Cut) {
        match cut {
            Power => self.gateway.kill(),
            Agent => drop(self.gateway.sh("systemctl kill -s KILL iotdm-agent")),
            Wipe => drop(self.gateway.sh("systemctl kill -s KILL iotdm-agent-wipe")),
        }
        match at {
            Accepted | Read => self.gateway.mend(),
            Asked if cut == Agent => drop(self.gateway.sh("systemctl kill -s CONT polkit")),
            _ => {}
        }
        if cut == Agent {
            // without the pause that systemd would make
            self.gateway.sh("systemctl restart iotdm-agent");
        }
    }

    /// One row: the request, its cuts, and what has become of it.
    fn goes_through(&self, wire: &Wire, (id, cuts, end): Row) {
        let gateway = &self.gateway;
        let told = wire.logs().len();
        fill(self);
        gateway.wait("the partition is mounted", || {
            gateway.exec(&["mountpoint", "-q", "/srv/app"]).status.success()
        });
        gateway.sh("touch /srv/app/x; : >/data/hold; : >/data/held");
        let request = format!("{{\"reqId\":\"{id}\"}}");
        let mut boots = gateway.boot_ids().len() + usize::from(cuts[0].0.is_later());
        self.hold(cuts[0].0);
        self.publish(RESET, &request);
        for (number, (at, cut)) in cuts.iter().enumerate() {
            // nobody looks into a guest that goes down
            gateway.wait("the boot", || gateway.boot_ids().len() == boots);
            self.wait_until(*at);
            if let Some((next, _)) = cuts.get(number + 1) {
                self.hold(*next);
            }
            self.cut(*at, *cut);
            boots += usize::from(*cut == Power);
        }
        gateway.wait_boot(boots);
        gateway.wait("the service has the log", || wire.logs().len() > told);
        gateway.wait("it is managed", || self.is_managed());
        let (answers, log) = (wire.answers(id), &wire.logs()[told]);
        match end {
            Complete(worked_on) => {
                assert_reset(self);
                assert_eq!(gateway.sh("ls /srv/app"), "lost+found", "{id}");
                assert!(log.contains(": /data/app, /dev/disk"), "{id}: {log}");
                assert!(log.contains(&format!("in {worked_on} boots")), "{id}: {log}");
                let accepted = !answers.is_empty() && answers.iter().all(|rc| *rc == 202);
                assert!(accepted, "{id}: {answers:?}");
            }
            NotComplete(reason) => {
                assert!(files_left(self) < MANY, "{id}");
                assert!(log.contains(reason), "{id}: {log}");
                assert_eq!(answers.last(), Some(&500), "{id}: {answers:?}");
            }
            DidNotHappen(reason) => {
                assert_eq!(files_left(self), MANY, "{id}");
                assert_eq!(gateway.sh("ls /srv/app"), "lost+found\nx", "{id}");
                assert!(log.contains(reason), "{id}: {log}");
                assert_eq!(answers.last(), Some(&500), "{id}: {answers:?}");
            }
        }
        // nothing of it is left, and the same request does nothing
        gateway.sh("cd /var/lib/iotdm-agent; test ! -e factory-reset -a ! -e factory-reset.report");
        gateway.sh("touch /data/app/again");
        let answered = wire.answers(id).len();
        self.publish(RESET, &request);
        gateway.wait("it is answered again", || wire.answers(id).len() > answered);
        gateway.sh("test -e /data/app/again");
        assert_eq!(gateway.boot_ids().len(), boots, "{id}");
        assert_eq!(wire.logs().len(), told + 1, "{id}: told once: {:?}", wire.logs());
    }
}

fn files_left(site: &Site) -> usize {
    site.gateway.sh("ls -U /data/app/cache | wc -l").parse().unwrap()
}

#[test]
fn rst_02_a_reset_that_is_cut_at_any_step_happens_once_or_is_told_not_to_have_happened() {
    for suite in SUITES {
        let site = laid_out(suite);
        site.gateway.sh(HOLDS);
        let wire = site.wire();
        // or these would be too many short boots in a row
        site.gateway.uptime(700);
        for row in ROWS {
            site.goes_through(&wire, row);
        }
        // nor is anything of it left for a later boot
        site.gateway.reboot();
        site.gateway.sh("test -e /data/app/again");
        assert_eq!(wire.logs().len(), ROWS.len(), "{suite}");
    }
}
