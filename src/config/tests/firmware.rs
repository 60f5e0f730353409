//! `[firmware]`: sizes, hosts, windows, units of a trial.

use super::*;

#[test]
fn without_a_line_about_firmware_it_is_on_and_as_careful_as_it_can_be() {
    let expected = Firmware {
        enabled: true,
        mark_good: true,
        max_size: 2 * 1024 * 1024 * 1024,
        allow_hosts: Vec::new(),
        allow_http: false,
        ca_file: None,
        certificate: None,
        proxy: None,
        max_rate: None,
        reboot: FirmwareReboot::Now,
        window: None,
        trial: Trial {
            timeout: Duration::from_secs(1800),
            units: Vec::new(),
            require_service: true,
        },
    };
    assert_eq!(with("").settings().firmware, expected);
}

#[test]
fn a_size_is_one_number_and_one_binary_unit() {
    let size = |text: &str| with(&format!("[firmware]\nmax_size = {text:?}\nmax_rate = {text:?}")).load();
    for (text, bytes) in [
        ("1KiB", 1024),
        ("500KiB", 512_000),
        ("64 MiB", 67_108_864),
        ("2GiB", 2_147_483_648),
    ] {
        match size(text).unwrap().settings {
            Configuration::Configured(settings) => {
                assert_eq!(settings.firmware.max_size, bytes, "{text}");
                assert_eq!(settings.firmware.max_rate, Some(bytes), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    for text in [
        "",
        "0",
        "0KiB",
        "2",
        "2GB",
        "2G",
        "GiB",
        "-1GiB",
        "1.5GiB",
        "1GiB1MiB",
        "99999999999GiB",
        "99999999999999999999KiB",
    ] {
        assert_eq!(size(text).unwrap_err().problems.len(), 2, "{text}");
    }
}

#[test]
fn a_window_is_two_times_of_day_and_may_pass_midnight() {
    let window = |text: &str| with(&format!("[firmware]\nreboot = \"window\"\nwindow = {text:?}")).load();
    for (text, from, to) in [
        ("02:00-04:00", 120, 240),
        ("23:30 - 01:00", 1410, 60),
        ("00:00-23:59", 0, 1439),
    ] {
        match window(text).unwrap().settings {
            Configuration::Configured(settings) => {
                assert_eq!(settings.firmware.window, Some(Window { from, to }), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    for text in [
        "",
        "02:00",
        "2:00-4:00",
        "02:00-24:00",
        "02:60-04:00",
        "02-04",
        "+2:00-04:00",
        "02:00-02:00",
        "02:00-03:00-04:00",
        "02:00..04:00",
        "٠٢:00-04:00",
    ] {
        assert!(
            window(text).unwrap_err().to_string().contains("firmware.window: "),
            "{text}"
        );
    }
}

#[test]
fn when_the_new_slot_is_booted_is_one_of_three() {
    for (text, expected) in [
        ("now", FirmwareReboot::Now),
        ("window", FirmwareReboot::Window),
        ("manual", FirmwareReboot::Manual),
    ] {
        let settings = with(&format!("[firmware]\nreboot = {text:?}\nwindow = \"02:00-04:00\"")).settings();
        assert_eq!(settings.firmware.reboot, expected);
    }
    let told = with("[firmware]\nreboot = \"later\"").refusal();
    assert!(
        told.contains("firmware.reboot: must be \"now\", \"window\" or \"manual\""),
        "{told}"
    );
    // the window may stand in another file than the wish for it
    let etc = with("[firmware]\nreboot = \"window\"").drop_in("1.toml", "firmware.window = \"02:00-04:00\"");
    assert_eq!(etc.settings().firmware.window, Some(Window { from: 120, to: 240 }));
}

#[test]
fn only_hosts_can_be_allowed_and_no_addresses_of_pages_ports_or_patterns() {
    let hosts = |list: &str| with(&format!("[firmware]\nallow_hosts = {list}")).load();
    match hosts("[\"A.example.com\", \"192.0.2.7\", \"2001:DB8::0:1\", \"[::1]\"]")
        .unwrap()
        .settings
    {
        Configuration::Configured(settings) => assert_eq!(
            settings.firmware.allow_hosts,
            ["a.example.com", "192.0.2.7", "2001:db8::1", "::1"]
        ),
        other => panic!("{other:?}"),
    }
    for bad in [
        "",
        "https://a.example.com",
        "a.example.com:443",
        "*.example.com",
        "a/b",
        "me:s3cret@a",
        "[::1]:443",
    ] {
        let told = hosts(&format!("[{bad:?}]")).unwrap_err().to_string();
        assert!(
            told.contains("firmware.allow_hosts: write the host alone"),
            "{bad}: {told}"
        );
        assert!(!told.contains("s3cret"), "{told}");
    }
    let many = |n: usize| format!("{:?}", vec!["a"; n]);
    assert!(hosts(&many(64)).is_ok());
    assert!(
        hosts(&many(65))
            .unwrap_err()
            .to_string()
            .contains("has 65 entries: at most 64")
    );
}

#[test]
fn a_list_of_something_else_than_strings_says_which_entry() {
    let told = Etc::new("firmware.trial.units = [\"a.service\", 5, [\"b.service\"]]").refusal();
    assert_eq!(
        told,
        "config.toml:1:38: firmware.trial.units: must be a list of strings, and holds a number\n    \
         put it in double quotes\n\
         config.toml:1:41: firmware.trial.units: must be a list of strings, and holds a list\n    \
         put it in double quotes"
    );
}

#[test]
fn the_units_of_a_trial_are_whole_names() {
    let units = |name: &str| with(&format!("[firmware.trial]\nunits = [{name:?}]")).load();
    for good in [
        "modbus.service",
        "a.b.timer",
        "getty@tty1.service",
        "dev-disk-by\\x2dlabel-data.mount",
    ] {
        match units(good).unwrap().settings {
            Configuration::Configured(settings) => assert_eq!(settings.firmware.trial.units, [good]),
            other => panic!("{other:?}"),
        }
    }
    let too_long = format!("{}.service", "x".repeat(250));
    for bad in [
        "",
        "modbus",
        ".service",
        "modbus.servce",
        "mod bus.service",
        "web@.service",
        "@x.service",
        "ü.service",
        "/etc/systemd/system/a.service",
        "a.service;reboot",
        too_long.as_str(),
    ] {
        assert!(
            units(bad).unwrap_err().to_string().contains("firmware.trial.units: "),
            "{bad}"
        );
    }
}

#[test]
fn a_trial_lasts_two_minutes_to_a_day() {
    for (text, good) in [
        ("119s", false),
        ("2m", true),
        ("24h", true),
        ("25h", false),
        ("0", false),
    ] {
        assert_eq!(
            with(&format!("[firmware.trial]\ntimeout = {text:?}")).load().is_ok(),
            good,
            "{text}"
        );
    }
}

#[test]
fn the_key_of_the_update_server_is_kept_from_others_too() {
    let etc = with("");
    let (cert, key) = (etc.file("cert.pem", "", 0o644), etc.file("key.pem", "", 0o644));
    let etc = etc.drop_in(
        "1.toml",
        &format!("firmware.cert_file = {cert:?}\nfirmware.key_file = {key:?}"),
    );
    let told = etc.refusal();
    assert!(
        told.contains("firmware.key_file: every user of this host can read"),
        "{told}"
    );
    let told = with("[firmware]\nkey_file = \"/nonexistent/k\"").refusal();
    assert!(
        told.contains("firmware.key_file: needs firmware.cert_file as well"),
        "{told}"
    );
}
