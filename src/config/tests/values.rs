//! Single keys: what is in range, what is not.

use super::*;

#[test]
fn con_07_quickstart_is_refused_with_the_reason() {
    let told = Etc::new("device.org = \"quickstart\"").refusal();
    assert!(told.contains("no device management"), "{told}");
}

#[test]
fn con_08_ids_are_refused_outside_of_their_alphabet_and_length() {
    let longest = "x".repeat(36);
    for good in ["a", "A-Z_0.9", longest.as_str()] {
        assert_eq!(
            with("")
                .drop_in("1.toml", &format!("device.id = {good:?}"))
                .settings()
                .device
                .id,
            good
        );
    }
    let too_long = "x".repeat(37);
    for bad in ["", "a b", "a/b", "a+", "#", "ä", "a:b", too_long.as_str()] {
        for key in ["org", "type", "id"] {
            let told = Etc::new(&format!("device.{key} = {bad:?}")).refusal();
            assert!(told.contains("1 to 36 characters"), "{bad}: {told}");
        }
    }
}

#[test]
fn mng_03_a_lifetime_is_zero_or_at_least_an_hour() {
    for (text, seconds) in [
        ("\"0\"", 0),
        ("0", 0),
        ("\"0s\"", 0),
        ("\"1h\"", 3600),
        ("\"3600s\"", 3600),
        ("\"30d\"", 2_592_000),
    ] {
        assert_eq!(
            with(&format!("[manage]\nlifetime = {text}")).settings().manage.lifetime,
            seconds
        );
    }
    for text in ["\"1s\"", "\"59m\"", "\"3599s\"", "3600", "-1", "\"50000d\""] {
        assert!(with(&format!("[manage]\nlifetime = {text}")).load().is_err(), "{text}");
    }
}

#[test]
fn con_06_the_keep_alive_has_a_range() {
    for (text, good) in [
        ("4s", false),
        ("5s", true),
        ("20m", true),
        ("1201s", false),
        ("0", false),
    ] {
        assert_eq!(with(&format!("keep_alive = {text:?}")).load().is_ok(), good, "{text}");
    }
}

#[test]
fn metadata_has_a_size_a_depth_and_only_what_json_can_say() {
    let nested = |levels: usize| format!("manage.metadata = {}1{}", "{ a = ".repeat(levels), " }".repeat(levels));
    assert!(Etc::new(&nested(8)).load().is_ok());
    assert!(
        Etc::new(&nested(9))
            .refusal()
            .contains("manage.metadata: is nested too deep\n    at most 8 levels")
    );
    let sized = |bytes: usize| {
        format!(
            "manage.metadata = {{ a = \"{}\" }}",
            "x".repeat(bytes - r#"{"a":""}"#.len())
        )
    };
    assert!(Etc::new(&sized(65_536)).load().is_ok());
    assert!(
        Etc::new(&sized(65_537))
            .refusal()
            .contains("is 65537 bytes long as JSON\n    at most 65536 bytes")
    );
    for unsayable in ["nan", "inf", "99999999999999999999"] {
        assert!(
            Etc::new(&format!("manage.metadata = {{ a = {unsayable} }}"))
                .refusal()
                .contains("write it as a string")
        );
    }
    assert!(
        Etc::new("manage.metadata = 5")
            .refusal()
            .contains("must be a table, not a number")
    );
}

#[test]
fn what_follows_the_port_of_gpsd_is_refused() {
    for (text, good) in [
        ("127.0.0.1:2947", true),
        ("[::1]:2947", true),
        ("127.0.0.1:2947/", false),
        ("127.0.0.1:2947/x", false),
        ("127.0.0.1", false),
    ] {
        let loaded = with(&format!("[location]\nsource = \"gpsd\"\ngpsd = {text:?}")).load();
        assert_eq!(loaded.is_ok(), good, "{text}");
    }
}

#[test]
fn what_the_disk_does_not_give_is_told_apart_from_what_is_not_there() {
    let etc = tempfile::tempdir().unwrap();
    let file = etc.path().join("config.toml");
    assert!(!load(&file, None).unwrap_err().unreadable);
    // nothing is mapped at its beginning: reading is an I/O error
    std::os::unix::fs::symlink("/proc/self/mem", &file).unwrap();
    assert!(load(&file, None).unwrap_err().unreadable);
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert!(!load(&file, None).unwrap_err().unreadable);
}
