//! Where a gateway is: a receiver, Debian's own gpsd in the gateway, and what the operator sees.

use crate::gnss::{Receiver, Sky};
use crate::harness::SUITES;
use crate::site::{DEVICE, Site};

/// 2026-11-23 10:00:00 UTC.
const TIME: i64 = 1_795_428_000;

/// A receiver on the host's end of the gateway's link, on a thread of its own; gone when dropped.
struct Feed {
    url: String,
    _end: tokio::sync::oneshot::Sender<()>,
}

impl Feed {
    fn start(site: &Site, sky: Sky) -> Self {
        let host = site.gateway.host_address();
        let (end, ended) = tokio::sync::oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let receiver = Receiver::start((host, 0), sky, TIME).await;
                tell.send(receiver.url()).unwrap();
                let _ = ended.await;
            });
        });
        Self {
            url: told.recv().unwrap(),
            _end: end,
        }
    }
}

#[test]
fn loc_01_the_operator_sees_where_a_gateway_with_a_receiver_is() {
    for suite in SUITES {
        let site = Site::managed(suite);
        let here = Sky::Fix {
            latitude: 48.137_154,
            longitude: 11.576_124,
            altitude: 519.0,
        };
        let feed = Feed::start(&site, here);
        let gateway = &site.gateway;
        gateway.write(
            "/etc/default/gpsd",
            &format!(
                "START_DAEMON=\"true\"\nDEVICES=\"{}\"\nGPSD_OPTIONS=\"-n\"\nUSBAUTO=\"false\"\n",
                feed.url
            ),
        );
        gateway.sh("systemctl restart gpsd.service");
        let path = "/etc/iotdm-agent/conf.d/60-location.toml";
        gateway.sh(&format!("install -m 640 -g iotdm-agent /dev/null {path}"));
        gateway.write(path, "[location]\nsource = \"gpsd\"\nmin_interval = \"10s\"\n");
        gateway.sh("systemctl reload iotdm-agent");
        gateway.wait("the service knows where it is", || {
            let output = site.iotdm(&["show", DEVICE]);
            String::from_utf8_lossy(&output.stdout).contains("48.13715")
        });
        let shown = gateway.sh("iotdm-agent location");
        assert!(shown.contains("here, as measured: 48.13715"), "{suite}: {shown}");

        // Somebody at the service says where else it is: that is set right, and what is free to write is kept.
        let output = site.iotdm(&["set", DEVICE, "metadata.site=north"]);
        assert!(output.status.success(), "{suite}: {output:?}");
        gateway.sh("systemctl restart iotdm-agent");
        gateway.wait("the metadata is there after a restart", || {
            let output = site.iotdm(&["show", DEVICE]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.contains("north") && text.contains("48.13715")
        });
    }
}
