//! An update to a newer agent that falls back: state is an interface between versions, in both directions.

use serde_json::{Value, json};

use crate::push::{QUICK, image, site};

/// Run in the image whenever its agent has ended: what that agent wrote becomes what a newer one would have written, in a
/// newer format and with members that this one does not know.
const NEWER: &str = r#"cat >/usr/local/sbin/newer <<'END'
#!/bin/sh
cd /var/lib/iotdm-agent
for copy in state.a state.b; do
    [ -s $copy ] || continue
    generation=$(sed -n '1s/.* generation=\([0-9]*\) .*/\1/p' $copy)
    sed 1d $copy | tr -d '\n' | sed -e 's/"from_newer":1,//g' -e 's/^{/{"from_newer":1,/' \
        -e 's/"update":{/&"from_newer":1,/' -e 's/"firmware":{/&"from_newer":1,/' >newer.json
    head="iotdm-state version=2 generation=$generation mood=good length=$(wc -c <newer.json) sha256="
    { printf '%s\n' "$head"; cat newer.json; } | sha256sum | { read -r digest _; printf '%s%s\n' "$head" "$digest"; } >newer
    cat newer newer.json >$copy
    rm newer newer.json
done
END
chmod 755 /usr/local/sbin/newer
mkdir /etc/systemd/system/iotdm-agent.service.d
printf '[Service]\nExecStopPost=/usr/local/sbin/newer\n' >/etc/systemd/system/iotdm-agent.service.d/newer.conf
printf '[Service]\nExecStart=/bin/false\n[Install]\nWantedBy=multi-user.target\n' >/etc/systemd/system/modbus.service
systemctl enable modbus.service
"#;

#[test]
fn after_a_fall_back_the_old_agent_reads_what_the_newer_one_wrote_and_tells_the_reason() {
    let site = site("bookworm", QUICK);
    let wire = site.wire();
    site.push_badly(image("bookworm", "2").script(NEWER), "2", "modbus.service has failed");
    assert_eq!(site.booted(), ("A".into(), "1".into()));
    assert_eq!(wire.ends(), [5], "one end is told");
    let state = || {
        site.gateway
            .sh("sed 1d /var/lib/iotdm-agent/state.a /var/lib/iotdm-agent/state.b")
    };
    let kept: Vec<Value> = state()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(!kept.is_empty());
    for state in kept {
        assert_eq!(
            (&state["from_newer"], &state["firmware"]["from_newer"]),
            (&json!(1), &json!(1)),
            "{state}"
        );
    }
    let gone = site.gateway.exec(&["sh", "-c", "ls /var/lib/iotdm-agent/*.damaged"]);
    assert!(!gone.status.success(), "nothing was put aside");
}
