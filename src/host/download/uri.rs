//! Where a firmware may be fetched from: https, http only where it is allowed, and only from the named hosts.
//!
//! Asks nobody and fetches nothing. An address is shown without user, password, query and fragment: those may carry
//! secrets (signed addresses do).

use std::fmt;

use reqwest::Url;

use super::Limits;

/// An address that the limits allow.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address(Url);

impl Address {
    /// # Errors
    /// A sentence that says what is wrong with the address.
    pub(super) fn parse(uri: &str, limits: &Limits) -> Result<Self, String> {
        let url = Url::parse(uri.trim())
            .map_err(|error| format!("the firmware's address is no URI ({error}); write https://HOST/PATH"))?;
        Self::allowed(url, limits)
    }

    /// Where a redirect leads: never to http, and only to hosts that are allowed. The login goes along only on the
    /// same server.
    ///
    /// # Errors
    /// A sentence that says why it is not followed.
    pub(super) fn redirected(&self, location: &str, limits: &Limits) -> Result<Self, String> {
        let mut url = self.0.join(location).map_err(|error| {
            format!("{self} redirects to something that is no address ({error}); its server is not set up right")
        })?;
        if url.scheme() == "http" {
            let to = shown_url(&url);
            return Err(format!(
                "{self} redirects to {to}, and a redirect is never followed to http; it must lead to https"
            ));
        }
        if url.origin() == self.0.origin() && url.username().is_empty() && url.password().is_none() {
            let login = url
                .set_username(self.0.username())
                .and(url.set_password(self.0.password()));
            debug_assert!(login.is_ok(), "an https address takes a login");
        }
        Self::allowed(url, limits).map_err(|problem| format!("{self} redirects, but {problem}"))
    }

    fn allowed(mut url: Url, limits: &Limits) -> Result<Self, String> {
        url.set_fragment(None);
        let shown = shown_url(&url);
        match url.scheme() {
            "https" => {}
            "http" if limits.allow_http => {}
            "http" => {
                return Err(format!(
                    "{shown} is http, which is not allowed here; use https, or set firmware.allow_http on the device"
                ));
            }
            other => {
                return Err(format!(
                    "firmware cannot be fetched from a {other} address ({shown}); only https is spoken"
                ));
            }
        }
        let host = url.host_str().unwrap_or_default();
        if host.is_empty() {
            return Err(format!("{shown} names no host; write https://HOST/PATH"));
        }
        if !limits.allow_hosts.is_empty() && !limits.allow_hosts.iter().any(|allowed| same_host(host, allowed)) {
            return Err(format!(
                "firmware may not be fetched from {host}: it is not in firmware.allow_hosts on the device"
            ));
        }
        Ok(Self(url))
    }

    pub(super) fn url(&self) -> Url {
        self.0.clone()
    }

    pub(super) fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }

    pub(super) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown_url(&self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Whether the firmware at `uri` may be fetched at all; for the answer to a request, before anything is begun.
///
/// # Errors
/// A sentence for the technician: no URI, not https, a host that is not allowed.
pub fn acceptable(uri: &str, limits: &Limits) -> Result<(), String> {
    Address::parse(uri, limits).map(|_| ())
}

/// A firmware's address as it may be shown and logged: without user, password, query and fragment.
pub fn shown(uri: &str) -> String {
    match Url::parse(uri.trim()) {
        Ok(url) => shown_url(&url),
        Err(_) => "(no valid address)".to_owned(),
    }
}

fn shown_url(url: &Url) -> String {
    let mut url = url.clone();
    // They fail for addresses that cannot have a login.
    let _ = url.set_username("").and(url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// `allowed` is written by people: in any case, as an international name, an IPv6 address with or without brackets.
fn same_host(host: &str, allowed: &str) -> bool {
    let normal = |text: &str| Some(Url::parse(&format!("https://{text}/")).ok()?.host_str()?.to_owned());
    let Some(allowed) = normal(allowed).or_else(|| normal(&format!("[{allowed}]"))) else {
        return false;
    };
    host.trim_end_matches('.') == allowed.trim_end_matches('.')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn limits(allow_http: bool, allow_hosts: &[&str]) -> Limits {
        Limits {
            allow_http,
            allow_hosts: allow_hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..Limits::default()
        }
    }

    #[test]
    fn fwd_04_what_is_no_https_address_is_refused_with_the_remedy() {
        let strict = limits(false, &[]);
        for (uri, part) in [
            ("", "https://HOST/PATH"),
            ("garbage", "https://HOST/PATH"),
            ("/etc/passwd", "https://HOST/PATH"),
            ("https://", "https://HOST/PATH"),
            ("https://host:port/", "https://HOST/PATH"),
            ("ftp://host/file", "ftp address"),
            ("file:///etc/passwd", "file address"),
            ("data:text/plain,x", "data address"),
            ("http://host/file", "firmware.allow_http"),
        ] {
            let error = acceptable(uri, &strict).unwrap_err();
            assert!(error.contains(part), "{uri}: {error}");
        }
        acceptable("https://host/file", &strict).unwrap();
        acceptable(" HTTPS://host:8443/a%20b?c=d ", &strict).unwrap();
        acceptable("http://host/file", &limits(true, &[])).unwrap();
    }

    #[test]
    fn only_the_named_hosts_are_asked_however_they_are_written() {
        let some = limits(
            true,
            &["FW.example.com", "bücher.example", "::1", "192.0.2.7", "not a host"],
        );
        for uri in [
            "https://fw.example.com/x",
            "https://FW.EXAMPLE.COM:8443/x",
            "https://fw.example.com./x",
            "https://xn--bcher-kva.example/x",
            "https://[0::1]/x",
            "http://192.0.2.7/x",
        ] {
            acceptable(uri, &some).unwrap();
        }
        for uri in [
            "https://example.com/x",
            "https://evil-fw.example.com/x",
            "https://fw.example.com.evil.org/x",
            "https://fw.example.com@evil.org/x",
            "https://192.0.2.8/x",
        ] {
            let error = acceptable(uri, &some).unwrap_err();
            assert!(error.contains("firmware.allow_hosts"), "{uri}: {error}");
        }
    }

    #[test]
    fn fwd_11_a_redirect_leads_to_allowed_https_hosts_only() {
        let limits = limits(true, &["a.example", "b.example"]);
        let from = Address::parse("https://me:secret@a.example/old?sig=secret", &limits).unwrap();
        let to = |location: &str| from.redirected(location, &limits);
        assert_eq!(to("/new").unwrap().url().as_str(), "https://me:secret@a.example/new");
        assert_eq!(to("//b.example/new").unwrap().url().as_str(), "https://b.example/new");
        for location in [
            "http://a.example/new?sig=secret",
            "https://c.example/new?sig=secret",
            "ftp://a.example/secret?sig=secret",
            "https://?sig=secret",
        ] {
            let error = to(location).unwrap_err();
            assert!(!error.contains("sig=") && !error.contains("me:"), "{location}: {error}");
        }
        let plain = Address::parse("http://a.example/", &limits).unwrap();
        assert!(plain.redirected("http://a.example/new", &limits).is_err());
        assert!(plain.redirected("/new", &limits).is_err());
        plain.redirected("https://a.example/new", &limits).unwrap();
    }

    #[test]
    fn an_address_is_shown_without_what_may_be_secret() {
        let uri = "https://me:secret@host:8443/path/file.raucb?X-Signature=secret#secret";
        assert_eq!(shown(uri), "https://host:8443/path/file.raucb");
        assert_eq!(shown("secret"), "(no valid address)");
        let address = Address::parse(uri, &Limits::default()).unwrap();
        assert_eq!(format!("{address} {address:?}").matches("secret").count(), 0);
    }
}
