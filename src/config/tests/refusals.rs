//! Refusals: the exact words, and where they point to.

use super::*;

#[test]
fn an_error_in_a_drop_in_names_the_drop_in() {
    let etc = with("").drop_in("10-site.toml", "# ours\n\n[service]\n  keepalive = \"10s\"\n");
    assert_eq!(
        etc.refusal(),
        "conf.d/10-site.toml:4:3: service.keepalive: unknown key\n    did you mean keep_alive?"
    );
}

#[test]
fn every_problem_is_told_at_once_in_the_order_of_the_lines() {
    let etc = Etc::new(concat!(
        "[device]\n",
        "org = \"quickstart\"\n",
        "type = \"edge gateway\"\n",
        "id = 7\n",
        "kind = \"router\"\n",
        "[service]\n",
        "url = \"https://broker\"\n",
        "keep_alive = 60\n",
        "cert_file = \"cert.pem\"\n",
        "[manage]\n",
        "lifetime = \"30m\"\n",
        "[manage.device_info]\n",
        "serial_number = \"1\"\n",
        "model = \"\"\n",
        "[reboot]\n",
        "enabled = \"yes\"\n",
        "[firmware]\n",
        "max_size = 2048\n",
        "allow_hosts = \"updates.example.com\"\n",
        "reboot = \"window\"\n",
        "[firmware.trial]\n",
        "timeout = \"1m\"\n",
        "units = [\n",
        "  \"modbus\",\n",
        "  \"web@.service\",\n",
        "]\n",
        "[location]\n",
        "source = \"fixed\"\n",
        "gpsd = \"localhost\"\n",
        "min_interval = \"1s\"\n",
        "max_interval = \"5s\"\n",
        "min_distance = \"far\"\n",
        "decimals = 2.5\n",
        "[location.fixed]\n",
        "latitude = 91\n",
        "longitude = inf\n",
    ));
    let expected = "\
config.toml:2:7: device.org: \"quickstart\" has no device management: use the organisation that the device is registered in
config.toml:3:8: device.type: must be 1 to 36 characters out of letters, digits, _ . - (no umlauts, no spaces)
config.toml:4:6: device.id: must be a string, not a number
    put it in double quotes
config.toml:5:8: device.kind: must be \"gateway\" or \"device\", as the device is registered
config.toml:7:7: service.url: write mqtts://HOST:PORT (TLS) or mqtt://HOST:PORT (in the clear)
config.toml:8:14: service.keep_alive: must be a duration, not a number
    write a number and a unit, such as \"60s\", \"30m\", \"24h\", \"7d\"
config.toml:9:13: service.cert_file: must be an absolute path, beginning with /
config.toml:9:13: service.cert_file: needs service.key_file as well
    a certificate is no use without its key
config.toml:11:12: manage.lifetime: 30m is too short: the service takes 0 (never dormant) or at least 1h
config.toml:13:1: manage.device_info.serial_number: unknown key
    did you mean serialNumber?
config.toml:14:9: manage.device_info.model: must not be empty: remove the line
config.toml:16:11: reboot.enabled: must be true or false, not a string
    write it without quotes
config.toml:18:12: firmware.max_size: must be a size, not a number
    write a number and a unit, such as \"500KiB\", \"64MiB\", \"2GiB\"
config.toml:19:15: firmware.allow_hosts: must be a list, not a string
    write [\"one\", \"two\"], or [] for none
config.toml:20:10: firmware.reboot: needs firmware.window as well
    add a line such as window = \"02:00-04:00\"
config.toml:22:11: firmware.trial.timeout: 1m is out of range: 2m to 24h
config.toml:24:3: firmware.trial.units: \"modbus\" is no unit: write its whole name, such as \"modbus.service\"
config.toml:25:3: firmware.trial.units: \"web@.service\" is a template: name one of its instances
config.toml:28:10: location.source: needs to know where
    add [location.fixed] with latitude and longitude, in decimal degrees
config.toml:29:8: location.gpsd: the port is missing: write HOST:PORT
config.toml:30:16: location.min_interval: 1s is out of range: 10s to 1d
config.toml:31:16: location.max_interval: 5s is out of range: 1m to 30d
config.toml:32:16: location.min_distance: must be a number, not a string
    write it without quotes, with a point and no comma
config.toml:33:12: location.decimals: must be a whole number
    5 is about a metre
config.toml:35:12: location.fixed.latitude: 91 is out of range: -90 to 90 degrees
    see docs/configuration.md
config.toml:36:13: location.fixed.longitude: inf is no number to work with
    write it in digits, such as 48.137";
    assert_eq!(etc.refusal(), expected);
}

#[test]
fn a_wrong_value_is_refused_even_before_there_is_an_identity() {
    assert!(Etc::new("[manage]\nlifetime = \"1m\"").load().is_err());
}

#[test]
fn a_file_that_is_no_toml_says_where() {
    assert_eq!(
        Etc::new("[device]\norg = acme\n").refusal(),
        "config.toml:2:7: is not valid TOML: string values must be quoted, expected literal string\n    \
         a string stands in double quotes, a section in [brackets] on a line of its own"
    );
    assert!(
        Etc::new("[device]\nid = \"a\"\nid = \"b\"\n")
            .refusal()
            .starts_with("config.toml:3:1: is not valid TOML: dup")
    );
    assert!(
        Etc::new("[device\n")
            .refusal()
            .starts_with("config.toml:1:8: is not valid TOML")
    );
    let etc = Etc::new("");
    std::fs::write(etc.path(), b"# gr\xc3\xbc\xc3\x9fe\n# gr\xfc\xdfe\n").unwrap();
    assert_eq!(etc.refusal(), "config.toml:2:5: is not UTF-8 text");
}

#[test]
fn a_section_that_is_no_table_and_a_table_that_is_no_section_say_so() {
    assert_eq!(
        Etc::new("device = \"gw\"\n[[service]]\nurl = 1\n").refusal(),
        "config.toml:1:10: device: is a section, not a string\n    \
         write [device] on a line of its own and its keys below it\n\
         config.toml:2:1: service: is a section, not a list\n    \
         write [service] on a line of its own and its keys below it"
    );
}

#[test]
fn a_missing_file_is_named() {
    let told = load(Path::new("/nonexistent/config.toml"), None)
        .unwrap_err()
        .to_string();
    assert_eq!(
        told,
        "/nonexistent/config.toml: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn columns_count_characters_not_bytes() {
    let told = Etc::new("manage = { metadata = { \"größe\" = 1 }, lifetime = true }").refusal();
    assert!(
        told.starts_with("config.toml:1:51: manage.lifetime: must be a duration, not true or false"),
        "{told}"
    );
}
