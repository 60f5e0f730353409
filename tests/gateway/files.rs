//! An https server beside a site, which answers as it is told: for downloads that go wrong.

use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::server::{Reply, Request, Secure, Server};
use crate::site::Site;
use crate::support::pki::Pair;

/// Runs on a thread of its own, and ends with this value.
pub(crate) struct Files {
    server: Server,
    ended: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Site {
    /// One for the gateway at `broker.test` and this port.
    pub(crate) fn files(&self, port: u16, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Files {
        let (cert_file, key_file) = self.certificate.clone();
        let secure = Secure {
            pair: Pair { cert_file, key_file },
            client_ca: None,
        };
        let address = (self.gateway.host_address(), port).into();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let server = runtime.block_on(Server::secure_at(address, secure, script));
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            // also when the sender is gone
            let _ = runtime.block_on(ended);
        });
        Files {
            server,
            ended: Some((end, thread)),
        }
    }
}

impl Files {
    /// What was asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.ended.take() {
            // The connections end with the runtime, and that with its thread.
            let _ = end.send(());
            let _ = thread.join();
        }
    }
}
