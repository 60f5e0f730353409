//! `[diagnostics]`: what is told of the journal, and when which error code holds.

use super::*;

fn codes(text: &str) -> Vec<ErrorCode> {
    with(text).settings().diagnostics.error_codes
}

#[test]
fn without_a_line_about_diagnostics_errors_are_told_and_no_code_is_known() {
    let expected = Diagnostics {
        journal: true,
        priority: 3,
        units: Vec::new(),
        exclude_units: Vec::new(),
        message_ids: Vec::new(),
        max_per_minute: 30,
        redact: Vec::new(),
        error_codes: Vec::new(),
    };
    assert_eq!(with("").settings().diagnostics, expected);
}

#[test]
fn an_error_code_holds_while_a_unit_is_failed_or_for_some_time_after_an_entry() {
    let found = codes(
        "[[diagnostics.error_code]]\ncode = 42\nunit = \"modbus.service\"\n\
         [[diagnostics.error_code]]\ncode = 43\nunit = \"modbus.service\"\nmessage = \"timeout after [0-9]+\"\nlasts = \"10m\"\n\
         [[diagnostics.error_code]]\ncode = 43\nmessage_id = \"FC2E22BC-6EE6-47B6-B907-29AB34A250B1\"\n",
    );
    let unit = Some("modbus.service".to_owned());
    let expected = [
        ErrorCode {
            code: 42,
            cause: ErrorCause::Failed("modbus.service".into()),
        },
        ErrorCode {
            code: 43,
            cause: ErrorCause::Logged {
                unit,
                message: Some("timeout after [0-9]+".into()),
                message_id: None,
                lasts: Duration::from_secs(600),
            },
        },
        ErrorCode {
            code: 43,
            cause: ErrorCause::Logged {
                unit: None,
                message: None,
                message_id: Some("fc2e22bc6ee647b6b90729ab34a250b1".into()),
                lasts: Duration::from_secs(3600),
            },
        },
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_error_codes_of_a_later_file_replace_those_of_an_earlier_one() {
    let rule = |code: u32| format!("[[diagnostics.error_code]]\ncode = {code}\nunit = \"a.service\"\n");
    let etc = with(&rule(1)).drop_in("10.toml", &rule(2));
    let codes: Vec<_> = etc.settings().diagnostics.error_codes;
    assert_eq!(codes.iter().map(|rule| rule.code).collect::<Vec<_>>(), [2]);
}

#[test]
fn what_is_wrong_in_it_is_told_with_its_place() {
    let etc = Etc::new(concat!(
        "[diagnostics]\n",
        "journal = 1\n",
        "priority = \"error\"\n",
        "units = [\"modbus\"]\n",
        "message_ids = [\"fc2e\"]\n",
        "max_per_minute = 0\n",
        "redact = [\"(\", \"\"]\n",
        "[[diagnostics.error_code]]\n",
        "unit = \"modbus.service\"\n",
        "[[diagnostics.error_code]]\n",
        "code = 9001\n",
        "unit = \"modbus.service\"\n",
        "[[diagnostics.error_code]]\n",
        "code = 1.5\n",
        "unit = \"modbus.service\"\n",
        "lasts = \"1h\"\n",
        "[[diagnostics.error_code]]\n",
        "code = 4\n",
        "[[diagnostics.error_code]]\n",
        "code = \"5\"\n",
        "messages = \"x\"\n",
        "[[diagnostics.error_code]]\n",
        "code = 6\n",
        "message = \"[\"\n",
        "lasts = \"1s\"\n",
    ));
    let told = etc.refusal();
    let expected = [
        "config.toml:2:11: diagnostics.journal: must be true or false, not a number",
        "config.toml:3:12: diagnostics.priority: must be one of \"emerg\", \"alert\", \"crit\", \"err\", \"warning\", \"notice\", \"info\", \"debug\"",
        "config.toml:4:10: diagnostics.units: \"modbus\" is no unit: write its whole name, such as \"modbus.service\"",
        "config.toml:5:16: diagnostics.message_ids: \"fc2e\" is no MESSAGE_ID: write its 32 hexadecimal digits, as journalctl -o verbose shows them",
        "config.toml:6:18: diagnostics.max_per_minute: 0 is out of range: 1 to 600 entries",
        "config.toml:7:11: diagnostics.redact: \"(\" is no regular expression: ",
        "config.toml:7:16: diagnostics.redact: \"\" matches the empty text, and so everything",
    ];
    for line in expected {
        assert!(told.contains(line), "{line}\nis missing in\n{told}");
    }
    // A table that is read wrong takes its whole list with it: the others are judged when it is mended.
    assert!(told.contains("config.toml:21:1: diagnostics.error_code.messages: unknown key\n    did you mean message?"));
    assert!(told.contains("config.toml:20:8: diagnostics.error_code.code: must be a number, not a string"));
    assert_eq!(told.matches("config.toml:").count(), 9, "{told}");
}

#[test]
fn a_rule_that_means_nothing_is_refused() {
    let told = |rule: &str| with(&format!("[[diagnostics.error_code]]\n{rule}")).refusal();
    for (rule, expected) in [
        (
            "unit = \"a.service\"",
            "config.toml:7:1: diagnostics.error_code: has no code",
        ),
        (
            "code = 9001\nunit = \"a.service\"",
            "config.toml:8:8: diagnostics.error_code.code: is one of the agent's own, 9000 to 9099",
        ),
        (
            "code = 0\nunit = \"a.service\"",
            "config.toml:8:8: diagnostics.error_code.code: must be a whole number, 1 to 2147483647",
        ),
        (
            "code = 1.5\nunit = \"a.service\"",
            "config.toml:8:8: diagnostics.error_code.code: must be a whole number, 1 to 2147483647",
        ),
        (
            "code = 4",
            "config.toml:7:1: diagnostics.error_code: does not say when it holds",
        ),
        (
            "code = 4\nunit = \"a.service\"\nlasts = \"1h\"",
            "config.toml:10:9: diagnostics.error_code.lasts: has no effect: the code holds while the unit is failed",
        ),
        (
            "code = 4\nmessage = \"[\"",
            "config.toml:9:11: diagnostics.error_code.message: \"[\" is no regular expression: ",
        ),
        (
            "code = 4\nmessage = \"x\"\nlasts = \"1s\"",
            "config.toml:10:9: diagnostics.error_code.lasts: 1s is out of range: 1m to 30d",
        ),
    ] {
        let told = told(rule);
        assert!(told.starts_with(expected), "{rule}\n{told}");
        assert_eq!(told.matches("config.toml:").count(), 1, "{told}");
    }
    assert!(
        with("[diagnostics]\nerror_code = 42\n")
            .refusal()
            .starts_with("config.toml:8:14: diagnostics.error_code: must be a list of tables, not a number")
    );
    let many = "[[diagnostics.error_code]]\ncode = 1\nunit = \"a.service\"\n".repeat(65);
    assert!(
        with(&many)
            .refusal()
            .contains("diagnostics.error_code: is there 65 times")
    );
}
