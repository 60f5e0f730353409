//! Tokens, keys and certificates: where they may lie, who may read them, and that they are never repeated.

use super::*;

#[test]
fn a_token_that_everybody_can_read_is_refused() {
    let etc = with("");
    let token = etc.file("token", "s3cret", 0o644);
    let etc = etc.drop_in("1.toml", &format!("service.token_file = {token:?}"));
    assert_eq!(
        etc.refusal(),
        "conf.d/1.toml:1:22: service.token_file: every user of this host can read or change token\n    \
         run: chown root:iotdm-agent token && chmod 0640 token"
    );
    for mode in [0o640, 0o600, 0o400, 0o440] {
        etc.file("token", "s3cret", mode);
        let loaded = etc.load().unwrap();
        assert_eq!(loaded.warnings, [], "{mode:o}");
        assert!(!format!("{loaded:?}").contains("s3cret"));
    }
}

#[test]
fn a_private_key_that_everybody_can_read_is_refused_but_a_certificate_may_be_public() {
    let etc = with("");
    let cert = etc.file("cert.pem", "", 0o644);
    let key = etc.file("key.pem", "", 0o644);
    let etc = etc.drop_in(
        "1.toml",
        &format!("service.cert_file = {cert:?}\nservice.key_file = {key:?}"),
    );
    let told = etc.refusal();
    assert!(
        told.starts_with("conf.d/1.toml:2:20: service.key_file: every user") && !told.contains("cert_file"),
        "{told}"
    );
    etc.file("key.pem", "", 0o640);
    assert_eq!(etc.load().unwrap().warnings, []);
}

#[test]
fn a_file_that_is_not_there_yet_is_a_warning_and_a_folder_is_an_error() {
    let etc = with("token_file = \"/nonexistent/token\"\nca_file = \"/nonexistent/ca.pem\"");
    let warnings = etc.load().unwrap().warnings;
    let keys: Vec<_> = warnings
        .iter()
        .map(|w| (w.key.as_deref().unwrap(), w.line.unwrap()))
        .collect();
    assert_eq!(keys, [("service.token_file", 7), ("service.ca_file", 8)]);
    assert!(with("ca_file = \"/etc\"").refusal().contains("/etc is not a file"));
}

#[test]
fn the_systemd_credential_is_used_when_no_token_file_is_set() {
    let etc = with("");
    let credentials = tempfile::tempdir().unwrap();
    let token = |etc: &Etc| match load(&etc.path(), Some(credentials.path())).unwrap() {
        Loaded {
            settings: Configuration::Configured(settings),
            warnings,
            ..
        } => (settings.service.token, warnings.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(token(&etc), (None, 1), "nothing to log in with is a warning");
    // Debian 13 makes credentials 0440 root:root with an ACL, 12 makes them 0400 and the user's own
    let file = credentials.path().join("token");
    std::fs::write(&file, "s3cret").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(token(&etc), (Some(Token::Credential(file)), 0));
    let own = etc.file("token", "s3cret", 0o600);
    let etc = etc.drop_in("1.toml", &format!("service.token_file = {own:?}"));
    assert_eq!(token(&etc), (Some(Token::File(own)), 1), "two sources are a warning");
}

#[test]
fn a_key_needs_its_certificate_and_the_other_way_round() {
    assert!(
        with("cert_file = \"/nonexistent/c\"")
            .refusal()
            .contains("service.cert_file: needs service.key_file")
    );
    assert!(
        with("key_file = \"/nonexistent/k\"")
            .refusal()
            .contains("service.key_file: needs service.cert_file")
    );
}

#[test]
fn a_token_in_the_clear_and_tls_files_without_tls_are_warned_about() {
    let warnings = |host: &str| {
        let more = "[service]\ntoken_file = \"/nonexistent/t\"\nca_file = \"/nonexistent/ca\"\n";
        let text = format!("device = {{ org = \"a\", type = \"b\", id = \"c\" }}\n{more}url = \"mqtt://{host}\"\n");
        let warnings = Etc::new(&text).load().unwrap().warnings;
        warnings
            .iter()
            .filter(|w| !w.message.contains("cannot be read"))
            .map(Problem::to_string)
            .collect::<Vec<_>>()
    };
    let open = warnings("broker.example.com");
    assert!(open.iter().any(|told| told.contains("in the clear")), "{open:?}");
    assert!(
        open.iter().any(|told| told.contains("service.ca_file: has no effect")),
        "{open:?}"
    );
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        assert!(
            !warnings(host).iter().any(|told| told.contains("in the clear")),
            "{host}"
        );
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    for text in [
        "service.token = \"s3cret\"",
        "service.password = \"s3cret\"",
        "service.url = \"mqtts://me:s3cret@broker\"",
        "service.proxy = \"http://me:s3cret@proxy:3128\"",
        "service.token_file = \"s3cret\"",
        "[service]\nurl = s3cret",
    ] {
        let told = Etc::new(text).refusal();
        assert!(!told.contains("s3cret"), "{told}");
    }
}
